"""Tags each stored page with the sections it lies in: /news/sport/7 has the tags "section:news" and "section:news/sport".

An example in Python. A call takes 25 µs and an instance 5 MiB; the response hook is called for misses only, beside a request to the origin.
"""

import json

try:
    from componentize_py_types import Err
    from wit_world import exports
    from wit_world.imports.types import (
        Input_Path,
        Manifest,
        Request,
        Response,
        StoreDecision,
        StoreDecision_Default,
        StoreDecision_Store,
        StorePolicy,
    )
except ImportError:  # the tests need none of it
    exports = None

depth = 2


def tags(path: str, depth: int) -> list[str]:
    """The sections of a path, without its last segment."""
    sections = [segment for segment in path.split("/")[:-1] if segment][:depth]
    return ["section:" + "/".join(sections[: n + 1]) for n in range(len(sections))]


def configured(config: str) -> int:
    """How many sections count. Raises ValueError, whose text is for the operator."""
    wanted = json.loads(config)
    unknown = sorted(set(wanted) - {"depth"})
    if unknown:
        raise ValueError(f"config: unknown field `{unknown[0]}`, expected `depth`")
    number = wanted.get("depth", 2)
    if type(number) is not int or not 1 <= number <= 16:
        raise ValueError("config: `depth` is no number from 1 to 16")
    return number


if exports:

    class Lifecycle(exports.Lifecycle):
        def configure(self, config: str) -> Manifest:
            global depth
            try:
                depth = configured(config)
            except ValueError as error:
                raise Err(str(error))
            return Manifest("section-tags-python", "0.1.0", [Input_Path()], [], False, [])

    class ResponseHook(exports.ResponseHook):
        def on_response(self, req: Request, carry: str | None, resp: Response) -> StoreDecision:
            if resp.status != 200:
                return StoreDecision_Default()
            policy = StorePolicy(None, None, None, tags(req.inputs[0] or "", depth), [], [])
            return StoreDecision_Store(policy)

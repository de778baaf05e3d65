"""One stored page for each language: visitors whose browsers ask for the same one share it, however they ask."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import CacheMode, Input_Header, Manifest, Request, RequestDecision

languages = ["en", "de"]


class Lifecycle(exports.Lifecycle):
    def configure(self, config: str) -> Manifest:
        """Called once. Raising `Err` refuses the configuration."""
        global languages
        languages = json.loads(config).get("languages", languages)
        if not languages:
            raise Err("config: `languages` names none")
        # What is not declared here is not there for the plugin. The same values give the same decision (`pure`), so it is remembered.
        inputs = [Input_Header("accept-language")]
        return Manifest("NAME", "0.1.0", inputs, [], True, [])


class RequestHook(exports.RequestHook):
    def on_request(self, req: Request) -> RequestDecision:
        wanted = [part.replace("-", ";").split(";")[0].strip().lower() for part in (req.inputs[0] or "").split(",")]
        language = next((name for name in wanted if name in languages), languages[0])
        return RequestDecision(CacheMode.LOOKUP, None, [f"language={language}"], None, None, None)

#!/usr/bin/env python3
"""Checks the dependency graph against deny.toml: licences, sources, duplicate versions.

`cargo deny` checks more; this needs nothing but cargo and Python, so that CI always has it.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def tokens(expression):
    # "MIT/Apache-2.0" is the spelling from before SPDX expressions.
    return re.findall(r"\(|\)|[^\s()/]+", expression.replace("/", " OR "))


def is_allowed(expression, allowed):
    """Evaluates an SPDX expression: AND binds closer than OR, WITH closer than both."""
    rest = tokens(expression)

    def alternative():
        result = conjunction()
        while rest and rest[0] == "OR":
            rest.pop(0)
            result = conjunction() or result
        return result

    def conjunction():
        result = single()
        while rest and rest[0] == "AND":
            rest.pop(0)
            result = single() and result
        return result

    def single():
        token = rest.pop(0)
        if token == "(":
            result = alternative()
            rest.pop(0)
            return result
        if rest and rest[0] == "WITH":
            rest.pop(0)
            return f"{token} WITH {rest.pop(0)}" in allowed
        return token in allowed

    return alternative()


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    # What is built where Weir runs; target-specific crates of other systems are neither built nor shipped.
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    members = set(metadata["workspace_members"])
    allowed = set(rules["licenses"]["allow"])
    faults = []

    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence or not is_allowed(licence, allowed):
            faults.append(f"{name}: licence {licence!r} is not allowed")
        source = package["source"]
        if package["id"] not in members and source is not None and "crates.io-index" not in source:
            faults.append(f"{name}: comes from {source}, not from crates.io")
        if source is None and package["id"] not in members:
            faults.append(f"{name}: is a path outside the workspace")

    versions = collections.defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    skipped = {}
    for entry in rules["bans"]["skip"]:
        name = entry if isinstance(entry, str) else entry.get("crate", entry.get("name"))
        name, _, version = name.partition("@")
        if not isinstance(entry, dict) or not entry.get("reason"):
            faults.append(f"deny.toml: skipping {name} has no reason")
        skipped.setdefault(name, set()).add(version)
    for name, several in sorted(versions.items()):
        extra = several - skipped.get(name, set())
        if len(several) > 1 and len(extra) > 1:
            faults.append(f"{name}: {len(several)} versions ({', '.join(sorted(several))})")
    for name, skip in sorted(skipped.items()):
        for version in sorted(skip - versions.get(name, set())):
            faults.append(f"deny.toml: {name}@{version} is skipped and not in the graph")

    for fault in faults:
        print(f"FAIL: {fault}")
    print(f"{len(packages)} packages: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

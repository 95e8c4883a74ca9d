#!/usr/bin/env python3
"""The part of kubectl that keeps nodes, in the file that KUBECONFIG names; each is Ready as soon as it is made."""

import json
import os
import sys
from pathlib import Path

file = Path(os.environ["KUBECONFIG"])
if not file.exists():
    sys.exit("The connection to the server was refused")
nodes = json.loads(file.read_text())
match sys.argv[1:]:
    case ["get", "nodes", *_]:
        json.dump({"items": list(nodes.values())}, sys.stdout)
    case ["delete", "nodes", *words]:
        for name in words:
            nodes.pop(name, None)
    case ["create", *_]:
        for node in json.load(sys.stdin)["items"]:
            node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            nodes[node["metadata"]["name"]] = node
    case words:
        sys.exit(f"unknown command {words}")
file.write_text(json.dumps(nodes))

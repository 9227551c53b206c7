# SPDX-License-Identifier: Apache-2.0
"""Stands in for a node as process 1 of a machine: echoes on 7835 and reports what it sees."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

sys.path.clear()  # nothing is imported from here on


def answer(question: dict[str, str]) -> object:
    match question["ask"]:
        case "facts":
            return {
                "pid": os.getpid(),
                "host_name": socket.gethostname(),
                "argv": sys.argv[1:],
                "links": [name for _, name in socket.if_nameindex()],
                "processes": sum(each.name.isdigit() for each in Path("/proc").iterdir()),
                "hosts": Path("/etc/hosts").read_text(),
            }
        case "write":
            try:
                Path(question["path"]).write_text("x")
            except OSError as error:
                return type(error).__name__
            return "written"
        case "list":
            return sorted(each.name for each in Path(question["path"]).iterdir())
        case "reach":
            with socket.socket() as probe:
                probe.settimeout(0.4)
                return probe.connect_ex((question["address"], int(question["port"])))
        case "exit":
            os._exit(int(question["code"]))
        case other:
            raise ValueError(other)


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def stop(_number: int, _frame: FrameType | None) -> None:
    say("stopping")
    os._exit(0)


signal.signal(signal.SIGTERM, stop)
say("booted")
server = socket.create_server(("0.0.0.0", 7835))
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rw") as file:
        for line in file:
            file.write(json.dumps(answer(json.loads(line))) + "\n")
            file.flush()

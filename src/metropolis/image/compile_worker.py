# SPDX-License-Identifier: Apache-2.0
"""Runs on the image's own Python, alone: compiles a list of sources.

Its one argument names a JSON file: [[source, path in the image, output], …]. Outputs hold what
`marshal` made of the code object; the caller brings it into one form.
"""

import json
import marshal
import sys
from pathlib import Path


def main() -> None:
    """Compile every job; stop at the first source that is no Python."""
    for source, shown, output in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        code = compile(Path(source).read_bytes(), shown, "exec", dont_inherit=True, optimize=0)
        Path(output).write_bytes(marshal.dumps(code))


main()

"""Coverage-guided fuzzing of one parser of foreign bytes, for development; needs atheris, which CI does not.

    python -m tests.fuzz_foreign_bytes PARSER [libFuzzer options, such as -max_total_time=60]

PARSER is a name in `tests.test_foreign_bytes.PARSERS`, whose seed starts the corpus.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol", "shared"]):
    from tests.test_foreign_bytes import PARSERS, only_declared


def main() -> None:
    parse, seed = PARSERS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as corpus:
        Path(corpus, "seed").write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], lambda data: only_declared(parse, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()

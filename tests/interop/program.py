"""What the checks of this folder share: the program under test, and the table of what was compared."""

import os
import re
import subprocess
import traceback


class Program:
    """The built lorashard, called in a folder as a user calls it."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def run(self, words, arguments, ranks=1):
        command = [self.path, *words.split(), *map(str, arguments)]
        if ranks > 1:
            command = [
                "mpirun",
                "--oversubscribe",
                "--bind-to",
                "none",
                "--mca",
                "mpi_yield_when_idle",
                "1",
                "-np",
                str(ranks),
            ] + command
        # Other programs' sessions of Open MPI may be taken down at the same moment: ours have a place of their own.
        more = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TMPDIR": self.folder}
        return subprocess.run(command, cwd=self.folder, env={**os.environ, **more}, capture_output=True)

    def __call__(self, words, *arguments, ranks=1):
        """Its standard output, in bytes. Raises unless it succeeds."""
        done = self.run(words, arguments, ranks)
        if done.returncode != 0:
            raise RuntimeError(
                f"{words} {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr.decode()}"
            )
        return done.stdout

    def refusal(self, words, *arguments):
        """The one line on standard error with which it refuses its input, or what it did instead."""
        done = self.run(words, arguments)
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        if done.returncode == 2 and len(lines) == 1:
            return lines[0]
        return f"no refusal: exit code {done.returncode}, {len(lines)} lines on standard error: {lines[:3]}"


class Table:
    """Prints a line for each comparison as it is made, and remembers what failed."""

    def __init__(self):
        self.failures, self.rows, self.largest = 0, 0, 0.0

    def section(self, title, check, *arguments):
        """What ends a check early fails it; the others are made all the same."""
        print(f"\n{title}", flush=True)
        try:
            check(*arguments)
        except Exception as error:
            traceback.print_exc()
            self.row("came to its end", f"{error}"[:300], False)

    def row(self, what, figures, good):
        self.rows += 1
        self.failures += not good
        print(f"  {'ok  ' if good else 'FAIL'}  {what:<62} {figures}", flush=True)

    def near(self, what, difference, bound):
        """`difference` is held to `bound`; NaN is not near."""
        self.largest = max(self.largest, difference)
        self.row(what, f"{difference:9.2e}  (at most {bound:.0e})", difference <= bound)

    def apart(self, what, difference, bound):
        """What must make a difference does: otherwise the comparisons beside it show nothing."""
        self.row(what, f"{difference:9.2e}  (at least {bound:.0e})", difference >= bound)

    def equal(self, what, found, expected, figures=""):
        same = found == expected
        self.row(what, figures if same else f"found {found!r:.300}, expected {expected!r:.300}", same)

    def names(self, what, line, pattern):
        """A refusal names the field it is about."""
        self.row(what, line[:200], not line.startswith("no refusal") and re.search(pattern, line) is not None)

    def finish(self):
        print(f"\n{self.rows} comparisons, {self.failures} failed; largest difference {self.largest:.2e}", flush=True)
        return 1 if self.failures else 0

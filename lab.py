#!/usr/bin/env python3
"""Install LLM Lab, open it, run it, test it. Only Python is needed.

    python lab.py            install what is missing, then open the first lesson in JupyterLab
    python lab.py setup      only install
    python lab.py run        execute the lessons without a browser, into runs/notebooks
    python lab.py run 00 03  execute only these lessons
    python lab.py test       install what the tests need, then run every test and every notebook

Options after a plain `python lab.py` go to JupyterLab: `python lab.py --no-browser`.
"""

# Only the standard library, and only syntax of Python 3.6, so that an old Python can say what is wrong.
import glob
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
OLDEST, NEWEST = (3, 11), (3, 13)  # as in requires-python of pyproject.toml
NEEDED_GB = 2.0  # of free disk for a first installation: 1.3 GB measured with PyTorch's CPU build
COMMANDS = ("start", "setup", "run", "test")
FIRST_LESSON = os.path.join("notebooks", "00_start_here.ipynb")

DISK_WORDS = ("no space left", "errno 28", "winerror 112", "not enough space", "disk quota exceeded")
NETWORK_WORDS = (
    "connection broken by", "name resolution", "getaddrinfo failed", "network is unreachable", "proxyerror",
    "newconnectionerror", "connection refused", "timeouterror", "certificate_verify_failed",
)  # fmt: skip


class LabError(Exception):
    """A failure that one sentence explains; main prints the sentence and exits with the status."""

    def __init__(self, sentence, status=1):
        super().__init__(sentence)
        self.status = status


def say(text):
    """Print a line of our own at once, marked so that it stands out from pip's and JupyterLab's lines."""
    print("[lab] " + text, flush=True)


def check_python(version=None):
    """Raise LabError when this Python (or the given version tuple) is older or newer than the course's range."""
    version = tuple(version or sys.version_info)[:2]
    if OLDEST <= version <= NEWEST:
        return
    raise LabError(
        "This is Python {}.{}, which is too {}: LLM Lab needs Python {}.{} to {}.{}; install one of them from "
        "https://www.python.org/downloads/ and start again with it (python3.12 lab.py, or py -3.12 lab.py).".format(
            *version, "old" if version < OLDEST else "new", *OLDEST, *NEWEST
        )
    )


def check_venv_module():
    """Raise LabError when this Python cannot make virtual environments, as Debian's without python3-venv."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise LabError(
            "This Python has no venv module; on Debian or Ubuntu install it with: sudo apt install "
            "python{}.{}-venv".format(*sys.version_info[:2])
        ) from None


def check_disk():
    """Raise LabError when our disk has less room than a first installation takes."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < NEEDED_GB:
        raise LabError(
            f"The disk is almost full: {free:.1f} GB are free where {ROOT} lies, and the installation needs about "
            f"{NEEDED_GB:.1f} GB; free some space and start again."
        )


def venv_python():
    """Return the path of the virtual environment's own Python, on every system."""
    return os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def fingerprint(extra):
    """Return a hash of all that decides what is installed: the three files, this Python, the place, the extra."""
    parts = [platform.python_version(), ROOT, extra]
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            parts.append(file.read())
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()


def stamp_path(extra):
    """Return the file that says, when it holds the right hash, that the installation is complete."""
    return os.path.join(VENV, "installed-{}.txt".format(extra or "course"))


def is_installed(extra=""):
    """Tell whether the last installation was finished and nothing that decides it has changed since."""
    try:
        with open(stamp_path(extra), encoding="utf-8") as file:
            return file.read() == fingerprint(extra) and os.path.exists(venv_python())
    except OSError:
        return False


def venv_works():
    """Tell whether .venv holds a Python of our version and a whole pip."""
    question = (
        "import sys, importlib.metadata, pip._internal.cli.main; "
        "whole = importlib.metadata.distribution('pip').read_text('INSTALLER'); "
        f"print(bool(whole) and sys.version_info[:2] == {tuple(sys.version_info[:2])})"
    )
    try:
        answer = subprocess.run([venv_python(), "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == "True"


def make_venv():
    """Make .venv, or make it anew when it is broken: half-made, or of another Python."""
    if venv_works():
        return
    check_venv_module()
    check_disk()
    say("Making a virtual environment in .venv")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False)
    if made.returncode:
        print(made.stdout + made.stderr, file=sys.stderr)
        raise LabError(explain_failure(made.stdout + made.stderr, "The virtual environment could not be made"))


def site_packages():
    """Return the folder of .venv into which pip installs."""
    pattern = ("Lib", "site-packages") if os.name == "nt" else ("lib", "python3*", "site-packages")
    return glob.glob(os.path.join(VENV, *pattern))[0]


def forget_half_installed():
    """Make pip install anew what an interrupted run left half-installed.

    pip writes a package's INSTALLER file last, but believes in any package that has metadata.
    """
    for folder in glob.glob(os.path.join(site_packages(), "*.dist-info")):
        if not os.path.exists(os.path.join(folder, "INSTALLER")):
            shutil.rmtree(folder)
    for leftover in glob.glob(os.path.join(site_packages(), "~*")):  # what pip was replacing
        shutil.rmtree(leftover, ignore_errors=True)


def explain_failure(output, otherwise):
    """Return one sentence for a failed command, from what it wrote to its error stream."""
    words = output.lower()
    if any(sign in words for sign in DISK_WORDS):
        return (
            f"The disk is full: free about {NEEDED_GB:.0f} GB where {ROOT} lies and in {tempfile.gettempdir()}, "
            "where pip unpacks, then start again; what is installed so far is kept."
        )
    if any(sign in words for sign in NETWORK_WORDS):
        return (
            "The package registry can't be reached: check the network, the proxy and pip's index setting, then "
            "start again; what is installed so far is kept."
        )
    if "no matching distribution" in words:
        computer = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        return f"A package has no version for this computer ({computer}); its name is in pip's lines above."
    return otherwise + "; the lines above say why."


def pip_install(arguments):
    """Run pip with its progress on the terminal; raise LabError with one sentence when it fails."""
    command = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    errors = []
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            errors.append(line)
    if process.returncode:
        raise LabError(explain_failure("".join(errors), "pip could not install the packages"))


def packages_of(extra):
    """Return the requirements of an extra in pyproject.toml, as pip wants them."""
    import tomllib  # here, and not above: only Python 3.11 and newer have it

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        return tomllib.load(file)["project"]["optional-dependencies"][extra]


def install(extra=""):
    """Install the course, and the packages of an extra when one is named; return at once when it is done already."""
    if is_installed(extra):
        return
    start = time.time()
    make_venv()
    forget_half_installed()
    say("Installing the packages; pip is silent for a minute at the end, while it unpacks them")
    more = packages_of(extra) if extra else []
    pip_install(["-r", "requirements.txt", "-c", "constraints.txt", *more])
    with open(os.path.join(site_packages(), "llm_lab.pth"), "w", encoding="utf-8") as file:
        file.write(ROOT + "\n")  # so that `import llm_lab` works from every folder
    for done in {"", extra}:  # an extra comes with the course itself
        with open(stamp_path(done), "w", encoding="utf-8") as file:
            file.write(fingerprint(done))
    say(f"Installed in {time.time() - start:.0f} s")


def call(arguments, **environment):
    """Run the environment's Python in the repository's root and return its exit status.

    Ctrl-C reaches that program, too: it may finish in its own way before we stop.
    """
    interrupted = False
    with subprocess.Popen([venv_python(), *arguments], cwd=ROOT, env={**os.environ, **environment}) as process:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


def setup(_options):
    """Only install."""
    install("")
    say("Ready; open the first lesson with: python lab.py")
    return 0


def start(options):
    """Open JupyterLab at the first lesson; the options are JupyterLab's."""
    install()
    say(f"Opening {FIRST_LESSON}; stop with Ctrl-C")
    return call(["-m", "jupyterlab", *options, FIRST_LESSON])


def run(lessons):
    """Execute all lessons, or those whose names start so, into runs/notebooks of the reader's folder."""
    install()
    results = os.path.join(os.environ.get("LLM_LAB_HOME") or ROOT, "runs", "notebooks")
    return call([os.path.join("tools", "execute_notebooks.py"), "--into", results, *lessons])


def fresh_home(name):
    """Return a folder for LLM_LAB_HOME without anyone's runs or answers; only its cache of corpora is kept."""
    home = os.path.join(ROOT, ".test", name)
    for entry in glob.glob(os.path.join(home, "*")):
        if os.path.basename(entry) != "data":
            shutil.rmtree(entry) if os.path.isdir(entry) else os.remove(entry)
    os.makedirs(home, exist_ok=True)
    return home


def test_steps():
    """Return the steps of the test command: a name, and what the environment's Python gets to run."""
    workers = str(min(os.cpu_count() or 1, 4))
    pytest = ["-m", "pytest", "-q", "-n", workers, "--dist", "loadfile", "--durations", "5"]
    steps = [
        ("ruff", ["-m", "ruff", "check", "."]),
        ("types", ["-m", "mypy"]),
        ("spelling", ["-m", "codespell_lib"]),
        ("unit tests", [*pytest, "tests"]),
    ]
    folders = [name for name in ("notebooks", "exercises") if glob.glob(os.path.join(ROOT, name, "*.ipynb"))]
    if folders:
        steps.append(("notebooks", [*pytest, "--nbval", "--nbval-current-env", *folders]))
    return steps


def test(_options):
    """Run every check, also after one has failed, and print a summary; return 0 only when all passed."""
    install("dev")
    environment = {"LLM_LAB_HOME": fresh_home("home"), "OMP_NUM_THREADS": "1", "LLM_LAB_REPOSITORY": ""}
    summary = []
    for name, arguments in test_steps():
        say("== " + name)
        begin = time.time()
        fast = {"LLM_LAB_FAST": "1"} if name == "notebooks" else {"LLM_LAB_FAST": ""}
        status = call(arguments, **environment, **fast)
        summary.append((name, status, time.time() - begin))
    for name, status, seconds in summary:
        say("{:12} {:6} {:6.1f} s".format(name, "failed" if status else "passed", seconds))
    return 1 if any(status for _, status, _ in summary) else 0


def main(arguments):
    """Do what the command line says and return the exit status."""
    if {"-h", "--help"} & set(arguments[:1]):
        print(__doc__)
        return 0
    named = arguments and not arguments[0].startswith("-")
    command, options = (arguments[0], arguments[1:]) if named else ("start", arguments)
    try:
        if command not in COMMANDS:
            raise LabError("There is no command {!r}; known are: {}.".format(command, ", ".join(COMMANDS)), status=2)
        if command in ("setup", "test") and options:
            raise LabError(f"The command {command} takes no options.", status=2)
        check_python()
        return {"start": start, "setup": setup, "run": run, "test": test}[command](options)
    except LabError as error:
        print(f"[lab] {error}", file=sys.stderr)
        return error.status
    except OSError as error:  # a full disk or a read-only folder, met by ourselves
        print(f"[lab] {explain_failure(str(error), str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[lab] Stopped; start again to go on from here.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

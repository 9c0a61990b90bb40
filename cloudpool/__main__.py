"""The command line: python -m cloudpool run [--on METHOD] script.py args...; config, acl; image, deploy, doctor and gc for hosts elsewhere."""

from __future__ import annotations

import argparse
import builtins
import difflib
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
import traceback
import types
import warnings
from typing import TYPE_CHECKING, NoReturn

from cloudpool import install, settings
from cloudpool.errors import CloudpoolError, RunnerError, SettingsError

__all__ = ["main"]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FAILED = 1
WRONG_USE = 2  # a wrong command line or setting, as with other tools
ENGINES = ("docker", "kubernetes", "lambda")  # of doctor and gc
RUN_OPTIONS = ("--on", "--workers", "--progress", "--debug")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. An error of cloudpool's is a line on stderr, a traceback under --debug."""
    options, unknown = _parser().parse_known_args(argv, argparse.Namespace(debug=False))
    if unknown:
        _say(f"{options.command_name} has no option {unknown[0]}{_nearest(unknown[0], options.options)}.")
        return WRONG_USE
    try:
        status: int = options.command(options)
    except CloudpoolError as error:
        if options.debug:
            raise
        _say(error)
        return WRONG_USE if isinstance(error, SettingsError) else FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    debug = argparse.ArgumentParser(add_help=False)
    # Before or after the command: without SUPPRESS the command's default would undo what stood before it.
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    parser = argparse.ArgumentParser("python -m cloudpool", parents=[debug], allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print cloudpool's version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        parents=[debug],
        allow_abbrev=False,
        help="run a multiprocessing program, unchanged, on cloudpool",
        usage="python -m cloudpool run [--on METHOD] [--workers N] [--progress] [--debug]\n"
        "                               (SCRIPT | FOLDER | - | -m MODULE | -c CODE) [ARG ...]",
    )
    run.set_defaults(command=_run, command_name="run", options=RUN_OPTIONS)
    run.add_argument(
        "--on", metavar="METHOD", help="start method: fork, spawn, forkserver, docker, kubernetes, lambda"
    )
    run.add_argument("--workers", metavar="N", help="number of workers of a Pool() that names none")
    run.add_argument("--progress", action="store_true", default=None, help="draw progress bars")
    program = run.add_argument_group("the program: it gets all arguments that follow")
    program.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="a module, as with python -m")
    program.add_argument("-c", dest="code", nargs=argparse.REMAINDER, help="program text, as with python -c")
    told = "a script's path, a folder or zip file with a __main__.py, or - for the text on stdin"
    program.add_argument("script", metavar="SCRIPT", nargs=argparse.REMAINDER, help=told)

    told = "print the rule of a server's user that may do what cloudpool needs, and nothing else"
    acl = commands.add_parser("acl", parents=[debug], allow_abbrev=False, help=told, description=_ACL)
    acl.set_defaults(command=_acl, command_name="acl", options=("--user", "--debug"))
    acl.add_argument("--user", metavar="NAME", default="cloudpool", help="the user's name (cloudpool)")

    host = commands.add_parser(
        "host", parents=[debug], allow_abbrev=False
    )  # what containers run: no user does
    host.set_defaults(
        command=_host, command_name="host", options=("--card", "--number", "--first", "--folder")
    )
    host.add_argument("--card", required=True)
    host.add_argument("--number", type=int)
    host.add_argument("--first", type=int, default=0)
    host.add_argument("--folder")

    told = "build an image for hosts of docker and kubernetes"
    image = commands.add_parser("image", parents=[debug], allow_abbrev=False, help=told, description=_IMAGE)
    image_options = ("--tag", "--builder", "--write-only", "--requirements", "--all", "--debug")
    image.set_defaults(command=_image, command_name="image", options=image_options)
    image.add_argument("--tag", metavar="NAME", help="the image's name (cloudpool:pythonX.Y)")
    image.add_argument(
        "--builder", choices=("docker", "podman", "buildah"), help="the first of them that is here"
    )
    image.add_argument(
        "--write-only", metavar="FOLDER", help="write what it is built from there, and build nothing"
    )
    image.add_argument("--requirements", metavar="FILE", help="add what this requirements file names")
    image.add_argument(
        "--all", action="store_true", help="add all that is installed here from a package index"
    )

    told = "make, change or remove the function that hosts on AWS Lambda are"
    deploy = commands.add_parser(
        "deploy", parents=[debug], allow_abbrev=False, help=told, description=_DEPLOY
    )
    words = "--name --memory --timeout --architecture --requirements --image --vpc --role --bucket --delete --dry-run --debug"
    deploy.set_defaults(command=_deploy, command_name="deploy lambda", options=tuple(words.split()))
    deploy.add_argument("engine", metavar="lambda", choices=("lambda",))
    deploy.add_argument("--name", help="the function's name (cloudpool)")
    deploy.add_argument("--memory", metavar="MIB", help="128 to 10240 (1769, which is one CPU)")
    deploy.add_argument("--timeout", metavar="SECONDS", help="of an invocation, 1 to 900 (900)")
    deploy.add_argument("--architecture", help="x86_64 or arm64 (this machine's)")
    deploy.add_argument(
        "--requirements", metavar="FILE", help="put in what it names, as it is installed here"
    )
    deploy.add_argument("--image", metavar="URI", help="make it of this image in ECR, not of a package")
    deploy.add_argument(
        "--vpc", metavar="IDS", help="its subnets and security groups: subnet-1,subnet-2,sg-1"
    )
    deploy.add_argument("--role", metavar="ARN", help="a role that is there, in the place of one of its own")
    deploy.add_argument("--bucket", metavar="NAME", help="of S3, through which a large package goes")
    deploy.add_argument("--delete", action="store_true", help="remove all that was made")
    deploy.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    told = "check every hop to hosts elsewhere (--on kubernetes, ...), and say what helps"
    doctor = commands.add_parser("doctor", parents=[debug], allow_abbrev=False, help=told)
    doctor.set_defaults(command=_doctor, command_name="doctor", options=("--on", "--debug"))
    doctor.add_argument("--on", choices=ENGINES, required=True, help="which engine")

    told = "remove from an engine what sessions left there whose root is gone"
    gc = commands.add_parser("gc", parents=[debug], allow_abbrev=False, help=told, description=_GC)
    gc_options = ("--on", "--older-than", "--session", "--all", "--debug")
    gc.set_defaults(command=_gc, command_name="gc", options=gc_options)
    gc.add_argument("--on", choices=ENGINES, required=True, help="which engine")
    gc.add_argument("--older-than", metavar="HOURS", type=float, default=24.0, help="whatever it does (24)")
    gc.add_argument("--session", metavar="ID", help="of this one, whatever it does, and of no other")
    gc.add_argument("--all", action="store_true", help="everything, of living sessions too")

    told = "print each setting and where it came from"
    config = commands.add_parser("config", parents=[debug], allow_abbrev=False, help=told)
    config.set_defaults(command=_config, command_name="config", options=("--debug",))
    return parser


class _Version(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        import cloudpool

        print(f"cloudpool {cloudpool.__version__}")
        sys.exit(0)


def _config(_: argparse.Namespace) -> int:
    chosen = _settings({}, os.getcwd())
    rows = [(name, chosen.shown(name), chosen.source(name)) for name in settings.NAMES]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        print(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}")
    return 0


_ACL = """Print the ACL SETUSER command that makes a user for cloudpool: limited to its keys (cp:*) and to the commands
that it sends. Put a password in the place of PASSWORD, run it as an administrator of the server, and name the user in
CLOUDPOOL_REDIS_URL."""


def _acl(options: argparse.Namespace) -> int:
    from cloudpool.store import rights

    if not options.user or any(letter.isspace() or letter == "\0" for letter in options.user):
        _say("the name of a server's user has no spaces in it.")
        return WRONG_USE
    print(rights.rule(options.user, "PASSWORD"))
    return 0


_IMAGE = """Build an image with this Python, this cloudpool and what it needs, at the versions that are installed here.
docker_image and kubernetes_image name it, unless its name is the default."""


def _image(options: argparse.Namespace) -> int:
    from cloudpool.deploy import image

    if options.write_only is not None:
        image.describe(options.write_only, options.requirements, is_all=options.all)
        print(f"{options.write_only} has the Dockerfile and what it needs.")
        return 0
    tag = options.tag or image.TAG
    image.build(tag, options.builder, options.requirements, is_all=options.all)
    print(
        f"The image is {tag}. A cluster elsewhere takes it from a registry: push it there, and name it in kubernetes_image."
    )
    return 0


_DEPLOY = """Make a function on AWS Lambda that hosts of the start method lambda are, or change what differs: with this
Python's version, this cloudpool and what it needs; a role that may write its log and no more; and no second tries."""


def _deploy(options: argparse.Namespace) -> int:
    from cloudpool.deploy.function import Deployment, Wish

    arguments = {
        "lambda_function": options.name,
        "lambda_memory": options.memory,
        "lambda_timeout_s": options.timeout,
        "lambda_architecture": options.architecture,
    }
    vpc = tuple(i.strip() for i in (options.vpc or "").split(",") if i.strip())
    if vpc and not ("subnet-" in options.vpc and all(i.startswith(("subnet-", "sg-")) for i in vpc)):
        _say("--vpc takes ids of subnets and security groups: --vpc subnet-1,subnet-2,sg-1.")
        return WRONG_USE
    wish = Wish(options.image, options.requirements, vpc, options.role, options.bucket)
    deployment = Deployment(_settings(arguments, os.getcwd()), wish, is_dry=options.dry_run)
    for line in deployment.remove() if options.delete else deployment.apply():
        print(line, flush=True)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from cloudpool.deploy import doctor

    status = 0
    for check in doctor.walk(options.on, _settings({}, os.getcwd())):
        status = status if check.is_ok else FAILED
        words = check.words.replace("\n", "\n" + " " * 8)
        print(f"{'ok' if check.is_ok else 'FAILED':7} {check.what}: {words}", flush=True)
    return status


_GC = """Remove what sessions left whose root is gone, and print each thing. Normally there is nothing: hosts and servers leave
by themselves. Without --session or --all: things of sessions of which nothing runs, and what is old. Of payloads in storage
(blob_url): what is old."""


def _gc(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from cloudpool.deploy import gc

    older_than = timedelta(hours=options.older_than)
    chosen = _settings({}, os.getcwd())
    for removed in gc.collect(options.on, chosen, older_than, options.session, is_all=options.all):
        print(f"removed: {removed}", flush=True)
    if remark := gc.REMARKS.get(options.on):
        print(remark)
    return 0


def _host(options: argparse.Namespace) -> int:
    from cloudpool.context import arrival
    from cloudpool.host import container
    from cloudpool.runners import manifest

    manifest.versions()  # found out once a host, not in each process
    number = options.number
    if number is None:
        number = options.first + int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
    return container.main(options.card, number, options.folder, arrival.run, arrival.PRELOADED)


def _run(options: argparse.Namespace) -> int:
    program: Callable[[types.ModuleType], None]
    if options.module:
        folder, argv, program = os.getcwd(), options.module, _module
    elif options.code:
        folder, argv, program = os.getcwd(), ["-c", *options.code[1:]], _code(options.code[0])
    elif options.script and options.script[0] == "-":
        folder, argv, program = os.getcwd(), options.script, _stdin(sys.stdin.buffer.read())
    elif options.script and pkgutil.get_importer(options.script[0]) is not None:
        folder, argv, program = os.path.join(os.getcwd(), options.script[0]), options.script, _folder
    elif options.script:
        argv = options.script
        folder, program = os.path.dirname(os.path.realpath(argv[0])), _script(argv[0])
    else:
        _say("run needs a script, -m MODULE or -c CODE: python -m cloudpool run script.py")
        return WRONG_USE
    arguments = {"start_method": options.on, "workers": options.workers, "progress": options.progress}
    chosen = _settings(arguments, folder)
    for name, value in arguments.items():
        if value is not None:
            os.environ[settings.PREFIX + name.upper()] = str(value)  # for the processes that it starts
    install.install()
    sys.argv = argv
    if not sys.flags.safe_path:
        sys.path[0] = "" if options.code or argv[0] == "-" else folder
    return _execute(program, is_debug=options.debug or chosen.debug)


def _settings(arguments: Mapping[str, object], folder: str) -> settings.Settings:
    """The settings that hold for a program in `folder`; what is doubtful in them is a line on stderr."""
    with warnings.catch_warnings(record=True) as doubts:
        chosen = settings.reload(arguments, folder=folder)
    for doubt in doubts:
        _say(doubt.message)
    return chosen


def _execute(program: Callable[[types.ModuleType], None], *, is_debug: bool) -> int:
    """Run `program` in a new __main__, and report what it raises as the interpreter would: without our frames."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    sys.modules["__main__"] = module
    if "__mp_main__" in sys.modules:  # by that name spawned processes send what they have of it
        sys.modules["__mp_main__"] = module
    try:
        program(module)
    except SystemExit:
        raise
    except BaseException as error:
        if isinstance(error, CloudpoolError) and not is_debug:
            if isinstance(error, RunnerError) and error.is_said:
                print(_place(error).lstrip(), file=sys.stderr)
            else:
                _say(f"{error}{_place(error)}")
            return FAILED
        _hide_our_frames(error)
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            # Said already; the interpreter then ends itself by SIGINT, as shells expect.
            sys.excepthook = lambda *_: None
            raise
        return FAILED
    return 0


def _script(path: str) -> Callable[[types.ModuleType], None]:
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as error:
        _say(f"cannot open the script {path}: {error.strerror}.")
        sys.exit(WRONG_USE)

    def program(module: types.ModuleType) -> None:
        filename = os.path.abspath(path)
        module.__file__ = filename
        module.__loader__ = importlib.machinery.SourceFileLoader("__main__", filename)
        module.__dict__["__cached__"] = None
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)

    return program


def _code(text: str) -> Callable[[types.ModuleType], None]:
    def program(module: types.ModuleType) -> None:
        module.__loader__ = importlib.machinery.BuiltinImporter  # as python -c has it
        exec(compile(text, "<string>", "exec", dont_inherit=True), module.__dict__)

    return program


def _stdin(text: bytes) -> Callable[[types.ModuleType], None]:
    def program(module: types.ModuleType) -> None:
        module.__file__ = "<stdin>"  # as python - has it
        module.__loader__ = importlib.machinery.BuiltinImporter
        module.__dict__["__cached__"] = None
        exec(compile(text, "<stdin>", "exec", dont_inherit=True), module.__dict__)

    return program


def _folder(_: types.ModuleType) -> None:
    """The __main__.py of the folder or zip file that sys.path begins with."""
    runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]  # as python itself does


def _module(_: types.ModuleType) -> None:
    name = sys.argv[0]
    sys.argv[0] = "-m"  # until runpy has found the module, as with python -m
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]  # what python -m itself calls


def _place(error: BaseException) -> str:
    """Where the program was when cloudpool raised `error`: a second line for the message, or nothing."""
    package = os.path.dirname(__file__) + os.sep
    stdlib = os.path.dirname(os.__file__) + os.sep
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    lines = [line for _, line in traceback.walk_tb(error.__traceback__)]
    for filename, line in zip(reversed(frames), reversed(lines), strict=True):
        if not filename.startswith((package, stdlib, "<frozen")):
            return f'\n(File "{filename}", line {line}; run --debug shows the traceback.)'
    return ""


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    return f" (did you mean {near[0]}?)" if near else f": it has {', '.join(known)}"


def _hide_our_frames(error: BaseException) -> None:
    """Unlink the frames of this file, of the redirected import and of runpy from all tracebacks of `error`."""
    ours = (__file__, install.__file__, runpy.__file__, "<frozen runpy>")
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        error_here = pending.pop()
        if error_here is None or id(error_here) in seen:
            continue
        seen.add(id(error_here))
        frames = []
        here = error_here.__traceback__
        while here is not None:
            if here.tb_frame.f_code.co_filename not in ours:
                frames.append(here)
            here = here.tb_next
        following = None
        for frame in reversed(frames):
            frame.tb_next = following
            following = frame
        error_here.__traceback__ = following
        pending += [error_here.__cause__, error_here.__context__]


def _say(message: object) -> None:
    print(f"cloudpool: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""How a Label Studio of its own (SQLite, loopback, no network needed) is started for the demo and for the tests.

Label Studio lives in a virtual environment of its own, because its pins and ours do not go together. A fresh data base
takes it half a minute to a minute to migrate, so that is done once per environment, into a template that is copied.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backend.demo.server_process import LOOPBACK, ServerError, ServerProcess, free_port

EXECUTABLE_VARIABLE = "LABEL_STUDIO_EXECUTABLE"
DEFAULT_EXECUTABLE = Path(__file__).parents[2] / ".venv-label-studio" / "bin" / "label-studio"
DATABASE = "label_studio.sqlite3"

# It asks nobody for updates, sends no statistics, and may talk to a backend on this machine.
_OFFLINE = {
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false",
    "LABEL_STUDIO_SSRF_PROTECTION_ENABLED": "false",
}


@dataclass(frozen=True)
class Login:
    """Who may log in to the Label Studio that is started.

    Attributes:
        email: User name.
        password: Password.
        token: Legacy API token, 40 hexadecimal digits.
    """

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


def find_executable(given: Path | None = None) -> Path:
    """Return the label-studio program: the one given, `$LABEL_STUDIO_EXECUTABLE`, or the one `make` installed.

    Raises:
        ServerError: If it is not there.
    """
    named = os.environ.get(EXECUTABLE_VARIABLE)
    executable = given or (Path(named) if named else DEFAULT_EXECUTABLE)
    if not os.access(executable, os.X_OK):
        raise ServerError(
            f"there is no Label Studio at {executable}. `make setup` installs it; "
            f"or name the program of another installation in {EXECUTABLE_VARIABLE}."
        )
    return executable.absolute()


def label_studio_process(
    executable: Path,
    data_dir: Path,
    login: Login,
    *,
    log_path: Path,
    port: int | None = None,
    extra_environment: Mapping[str, str] | None = None,
    ready_timeout_s: float = 240.0,
) -> ServerProcess:
    """Describe a Label Studio server; its data base is prepared here if the data folder has none yet.

    Args:
        executable: The label-studio program.
        data_dir: Data base, uploads and exports; `data_dir/files` is what local storage may serve.
        login: Made if the data base does not know it yet.
        log_path: Where its log goes.
        port: Port on the loopback interface; a free one if left out.
        extra_environment: More variables, for example feature flags.
        ready_timeout_s: How long it may take to start.

    Raises:
        ServerError: If the data base cannot be prepared.
    """
    data_dir = data_dir.absolute()
    prepare_data_dir(executable, data_dir)
    files_dir = data_dir / "files"
    files_dir.mkdir(exist_ok=True)
    # Label Studio takes the next port when this one is busy, and says so only in its log: then /health never answers
    # here, and the message shows that log.
    port = free_port() if port is None else port
    url = f"http://{LOOPBACK}:{port}"
    environment = {
        **_clean_environment(data_dir),
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files_dir),
        # Not as arguments, which every user of the machine can read.
        "LABEL_STUDIO_USERNAME": login.email,
        "LABEL_STUDIO_PASSWORD": login.password,
        "LABEL_STUDIO_USER_TOKEN": login.token,
        **(extra_environment or {}),
    }
    command = [str(executable), "start", "--no-browser", "--enable-legacy-api-token"]
    return ServerProcess(
        "Label Studio",
        [*command, "--internal-host", LOOPBACK, "--port", str(port)],
        environment=environment,
        url=url,
        log_path=log_path,
        ready_timeout_s=ready_timeout_s,
    )


def prepare_data_dir(executable: Path, data_dir: Path) -> None:
    """Make sure that the data folder holds a data base, by a copy of the template where that is possible.

    Raises:
        ServerError: If the data base cannot be made.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    database = data_dir / DATABASE
    if database.exists():
        return
    template = _template_database(executable)
    if template is not None:
        # Under another name first: a copy that is cut short must not pass for a data base.
        partial = data_dir / f"{DATABASE}.partial"
        shutil.copyfile(template, partial)
        partial.replace(database)


def _template_database(executable: Path) -> Path | None:
    """Return a migrated, empty data base beside the program, made now if need be; None where none can be kept."""
    # Beside the packages it was migrated by: a new environment begins without a template.
    home = executable.resolve().parent.parent
    if not os.access(home, os.W_OK):
        return None
    template = home / "clipdiy-template" / DATABASE
    template.parent.mkdir(exist_ok=True)
    with (template.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
                _migrate(executable, Path(scratch))
                (Path(scratch) / DATABASE).replace(template)
    return template


def _migrate(executable: Path, data_dir: Path, timeout_s: float = 300.0) -> None:
    """Let Label Studio make its tables in a new data folder; every command of it does so before anything else."""
    try:
        done = subprocess.run(
            [str(executable), "version"],
            env=_clean_environment(data_dir),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ServerError(f"Label Studio could not prepare a data base: {err}") from err
    if done.returncode != 0 or not (data_dir / DATABASE).exists():
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise ServerError(f"Label Studio could not prepare a data base (exit code {done.returncode}):\n{tail}")


def _clean_environment(data_dir: Path) -> dict[str, str]:
    """Return this process's environment without another Label Studio's settings, plus those of an offline one."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LABEL_STUDIO_", "CLIPDIY_", "DJANGO_", "POSTGRE_")) and name != "DATABASE_NAME"
    }
    return {**inherited, **_OFFLINE, "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir)}

"""What is shipped around the code says what the code does: README, changelog, requirements, Docker."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from PIL import Image
from setuptools import Distribution

from backend import gunicorn_conf
from backend.settings import Settings
from clipdiy.config import PRESETS, preset
from clipdiy.method import required_files
from clipdiy.starter.scenes import compose_scene
from clipdiy.weights import STARTER_DIR, default_weights_dir

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

SETTINGS = {f"CLIPDIY_{name.upper()}": field for name, field in Settings.model_fields.items()}
# Read by gunicorn's configuration, before there is a service.
VARIABLES = {*SETTINGS, "CLIPDIY_WORKERS", "CLIPDIY_BIND"}


# README and changelog


def default_text(field):
    value = field.get_default(call_default_factory=True)
    if value is None or value == ():
        return ""
    if value == default_weights_dir():
        return "`~/.cache/clipdiy/weights`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_readme_table_is_the_settings():
    rows = re.findall(r"^\| `(CLIPDIY_\w+)` \| (.*?) ?\| ", README, re.MULTILINE)
    assert dict(rows) == {name: default_text(field) for name, field in SETTINGS.items()}
    assert [name for name, _ in rows] == list(SETTINGS), "another order"


@pytest.mark.parametrize(
    "name", ["README.md", "CHANGELOG.md", "docker-compose.yml", "Dockerfile", "docker-entrypoint.sh"]
)
def test_every_variable_that_is_named_exists(name):
    named = set(re.findall(r"\bCLIPDIY_[A-Z_]+\b", (ROOT / name).read_text(encoding="utf-8")))
    assert named <= VARIABLES


def test_readme_links_to_files_that_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        # The picture is made by the demo, with Label Studio and a browser.
        if not target.startswith("http") and target != "docs/demo.png":
            assert (ROOT / target).exists(), target


def test_readme_names_the_files_that_the_paper_needs():
    named = re.findall(r"^ {4}weights/(\S+)", README, re.MULTILINE)
    assert named == [file.name for file in required_files(preset("paper"))]


def test_readme_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^ {4}make (\w+)|`make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target


def shell_blocks():
    blocks = re.findall(r"<!-- tested -->\n```sh\n(.*?)```", README, re.DOTALL)
    assert blocks
    return blocks


@pytest.mark.skipif(not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none")
@pytest.mark.parametrize("block", shell_blocks())
def test_readme_commands_run(block, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(compose_scene(seed).image).save(tmp_path / "photos" / f"{seed}.png")
    command = tmp_path / "bin" / "clipdiy"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m clipdiy "$@"\n')
    command.chmod(0o755)
    ended = subprocess.run(
        ["sh", "-eu", "-c", block],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "CLIPDIY_WEIGHTS_DIR": str(tmp_path / "w"),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {
        f"{seed}.{kind}" for seed in range(2) for kind in ("labels.png", "overlay.png", "json", "explain.png")
    }


def test_there_is_a_reason_for_every_dependency():
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    reasons = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for requirement in wanted:
        name = re.split(r"[\[>=<~!; ]", requirement)[0]
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reasons), f"{name} has no line"


def test_licence_is_the_whole_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PYPROJECT["project"]["license"] == "Apache-2.0"


# The package


@pytest.mark.parametrize("folder", ["backend/web/page", "clipdiy/others"])
def test_a_wheel_holds_what_is_read_at_run_time(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    project = Distribution()
    project.parse_config_files(["pyproject.toml"])
    build = project.get_command_obj("build_py")
    build.finalize_options()
    build.manifest_files = {}  # else it would write what belongs to the sources into this folder
    package = folder.replace("/", ".")
    assert package in build.packages
    packed = {str(Path(name)) for name in build.find_data_files(package, folder)}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.*") if "py" not in path.suffix}
    assert len(there) > 1
    assert there <= packed


# The lock


def locked(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return {re.sub("[-_.]+", "-", found).lower() for found in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def test_lock_holds_every_dependency():
    names = {re.split(r"[\[>=<~!; ]", one)[0] for one in PYPROJECT["project"]["dependencies"]}
    assert {re.sub("[-_.]+", "-", name).lower() for name in names} <= locked("requirements.txt")
    assert locked("requirements.txt") <= locked("requirements-dev.txt")


def test_lock_has_a_hash_for_everything_and_no_address():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^[\w.-]+==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(entries) == len(locked("requirements.txt"))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


ONLY_FOR_A_GPU = {
    "cuda-bindings",
    "cuda-pathfinder",
    "cuda-toolkit",
    "nvidia-cusolver",
    "nvidia-nvjitlink",
    "nvidia-nvtx",
    "triton",
}


def test_the_cpus_lock_is_the_lock_without_what_only_a_gpu_needs():
    def entries(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        return re.findall(r"^[\w.-]+==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)

    kept = [entry for entry in entries("requirements.txt") if entry.partition("==")[0] not in ONLY_FOR_A_GPU]
    assert entries("requirements-cpu.txt") == kept
    assert locked("requirements.txt") - locked("requirements-cpu.txt") == ONLY_FOR_A_GPU
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in contributing for name in ONLY_FOR_A_GPU)


def test_the_image_takes_the_lock_it_is_given():
    assert "ARG REQUIREMENTS=requirements.txt\nCOPY ${REQUIREMENTS} ./requirements.txt\n" in DOCKERFILE
    cpu, gpu = SERVICES["backend"], SERVICES["backend-gpu"]
    [(name, lock)] = cpu["build"]["args"].items()
    assert name == "REQUIREMENTS"
    assert re.fullmatch(r"\$\{REQUIREMENTS:-(.*)\}", lock)[1] == "requirements-cpu.txt"
    assert gpu["build"] == "."
    assert cpu["image"] != gpu["image"], "one would be built over the other"
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {"!requirements.txt", "!requirements-cpu.txt"} <= set(sent)


# Docker


def copied():
    """Return (source, target) of every COPY, where nothing else is asked for."""
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    pairs = []
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        *sources, target = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], line).split()
        pairs += [(source, target) for source in sources]
    return pairs


def command(word):
    (text,) = re.findall(rf"^{word} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return json.loads(text)


def test_everything_that_is_copied_exists_and_is_not_ignored():
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert ignore[1] == "*"
    assert {source for source, _ in copied()} | {"requirements-cpu.txt"} == kept
    assert all((ROOT / source).exists() for source in kept)


def test_image_runs_as_nobody_in_particular():
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
    assert re.search(r"^HEALTHCHECK ", DOCKERFILE, re.MULTILINE)


def lay_out_image(folder):
    """Copy what the Dockerfile copies to where it would lie."""
    for source, target in copied():
        place = folder / target if not target.endswith("/") else folder / target / source
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, place)


@pytest.mark.skipif(not (STARTER_DIR / "clip").is_dir(), reason="needs the starter weights, and this checkout has none")
def test_image_starts_with_what_was_copied(tmp_path):
    lay_out_image(tmp_path)
    program, *arguments = command("CMD")
    assert program == "gunicorn"
    ended = subprocess.run(
        [sys.executable, "-m", program, "--check-config", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "CLIPDIY_PRESET": "starter", "CLIPDIY_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert "starter" in ended.stderr


@pytest.fixture
def entrypoint(tmp_path):
    """Runs the entrypoint with programs that only write down how they were called."""
    lay_out_image(tmp_path)
    for name in ("python", "gunicorn"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n[ "${{FAIL:-}}" != {name} ]\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    interpreter, script = command("ENTRYPOINT")
    workdir = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)[-1]
    script = tmp_path / Path(script).relative_to(workdir)

    def run(*arguments, **environment):
        return subprocess.run(
            [interpreter, str(script), *arguments],
            env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.mark.parametrize(
    ("environment", "fetched"),
    [
        ({}, "--preset paper"),
        ({"CLIPDIY_PRESET": "starter"}, "--preset starter"),
        ({"CLIPDIY_CLIP": "ViT-L-14:openai", "CLIPDIY_FOUND": ""}, "--preset paper --clip ViT-L-14:openai"),
        ({"CLIPDIY_FOUND": "local-dir:/my found"}, "--preset paper --found local-dir:/my found"),
    ],
)
def test_entrypoint_fetches_weights_before_the_service(entrypoint, environment, fetched):
    ended = entrypoint(*command("CMD"), **environment)
    assert ended.stdout.splitlines() == [f"python -m clipdiy weights fetch {fetched}", " ".join(command("CMD"))]


def test_entrypoint_stops_where_weights_cannot_be_had(entrypoint):
    ended = entrypoint(*command("CMD"), FAIL="python")
    assert ended.returncode != 0
    assert "gunicorn" not in ended.stdout


def test_entrypoint_runs_other_commands_as_they_are(entrypoint):
    assert entrypoint("python", "-m", "clipdiy", "weights", "check").stdout == "python -m clipdiy weights check\n"


SERVICES = COMPOSE["services"]
BACKENDS = [name for name in SERVICES if name.startswith("backend")]


def container_port(service):
    (mapping,) = SERVICES[service]["ports"]
    return mapping.rpartition(":")[2]


def test_compose_has_a_backend_without_a_profile_and_one_for_a_gpu():
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {"label-studio": [], "backend": [], "backend-gpu": ["gpu"]}
    (device,) = SERVICES["backend-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in SERVICES["backend"]


@pytest.mark.parametrize("name", BACKENDS)
def test_compose_gives_the_backend_settings_that_exist(name):
    environment = SERVICES[name]["environment"]
    assert {"CLIPDIY_PRESET", "CLIPDIY_METHOD"} < set(environment) <= VARIABLES
    given = {key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in environment.items() if value is not None}
    workers = given.pop("CLIPDIY_WORKERS", "1")
    assert int(workers) == 1
    settings = Settings(**{key.removeprefix("CLIPDIY_").lower(): value for key, value in given.items()})
    assert settings.preset in PRESETS
    assert settings.label_studio_url == f"http://label-studio:{container_port('label-studio')}"


def test_compose_ports_are_those_that_are_listened_on():
    listened = gunicorn_conf.bind.rpartition(":")[2]
    assert {container_port(name) for name in BACKENDS} == {listened}
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [listened]
    assert f"http://127.0.0.1:{listened}/health" in DOCKERFILE
    check = SERVICES["label-studio"]["healthcheck"]["test"]
    assert f"http://127.0.0.1:{container_port('label-studio')}/health" in check[-1]
    published = [service["ports"][0].rsplit(":", 1)[0] for service in SERVICES.values()]
    assert len(set(published)) == len(published)


def test_compose_mounts_volumes_that_exist_where_the_image_looks():
    named = set()
    for service in SERVICES.values():
        for mount in service["volumes"]:
            source, _, target = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", mount).partition(":")
            assert target.startswith("/")
            if not source.startswith("."):
                named.add(source)
    assert named == set(COMPOSE["volumes"])
    for variable in ("CLIPDIY_WEIGHTS_DIR", "CLIPDIY_DATA_DIR"):
        (folder,) = re.findall(rf"{variable}=(\S+)", DOCKERFILE)
        assert any(mount.endswith(f":{folder}") for mount in SERVICES["backend"]["volumes"])
    root = SERVICES["backend"]["environment"]["CLIPDIY_LOCAL_FILES_ROOT"]
    assert any(mount.endswith(f":{root}:ro") for mount in SERVICES["backend"]["volumes"])
    root = SERVICES["label-studio"]["environment"]["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"]
    assert any(mount.endswith(f":{root}:ro") for mount in SERVICES["label-studio"]["volumes"])


def seconds(text):
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", SERVICES)
def test_compose_ends_services_in_order_and_bounds_them(name):
    service = SERVICES[name]
    assert service["init"] is True
    assert seconds(service["stop_grace_period"]) > gunicorn_conf.graceful_timeout
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\$\{\w+:-\d+g\}", service["mem_limit"])


@pytest.mark.parametrize("name", BACKENDS)
def test_compose_gives_the_backend_no_more_than_it_needs(name):
    service = SERVICES[name]
    assert (service["cap_drop"], service["read_only"], service["pull_policy"]) == (["ALL"], True, "build")
    writable = {mount.partition(":")[0] for mount in service["tmpfs"]}
    [user] = re.findall(r"--uid (\d+)", DOCKERFILE)
    assert writable == {"/tmp", "/home/clipdiy"}
    assert any(f"uid={user}" in mount for mount in service["tmpfs"]), "a tmpfs is root's otherwise"


def test_health_checks_do_not_go_through_a_proxy():
    check = SERVICES["label-studio"]["healthcheck"]["test"][-1]
    checks = re.findall(r"urllib\.request as u; (\S+)\(", DOCKERFILE + check)
    assert checks == ["u.build_opener(u.ProxyHandler({})).open"] * 2


def test_the_image_has_the_commands_and_a_version():
    assert ("pyproject.toml", "./") in copied()
    [install] = re.findall(r"^RUN (pip install .*\.)$", DOCKERFILE, re.MULTILINE)
    assert {"--no-deps", "--no-build-isolation"} <= set(install.split()), "nothing but what is locked"
    assert DOCKERFILE.index(install) > DOCKERFILE.index("COPY backend")
    assert "setuptools" in locked("requirements.txt")
    assert "CLIPDIY_BIND=0.0.0.0:" in DOCKERFILE


def test_what_is_private_is_not_committed():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/photos/", ".env"} <= set(ignored)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LABEL_STUDIO_COLLECT_ANALYTICS", "false"),
        ("LABEL_STUDIO_LATEST_VERSION_CHECK", "false"),
        ("SENTRY_DSN", ""),
        ("FRONTEND_SENTRY_DSN", ""),
    ],
)
def test_label_studio_sends_nothing_elsewhere(name, value):
    assert SERVICES["label-studio"]["environment"][name] == value


def test_compose_lets_label_studio_reach_a_private_address():
    environment = SERVICES["label-studio"]["environment"]
    assert environment["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"
    assert environment["LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN"] == "true"
    assert SERVICES["label-studio"]["image"] == "heartexlabs/label-studio:1.23.2"

"""How many threads compute and how they wait, from made-up control groups and environments."""

import pytest

from clipdiy import threads
from clipdiy.threads import prepare_threads, quota_cores, usable_cores

V2_ROOT = "0::/\n"
V2_INNER = "0::/system.slice/docker-1a.scope\n"
V1 = "9:name=systemd:/docker/1a\n4:memory:/docker/1a\n3:cpu,cpuacct:/docker/1a\n2:cpuset:/docker/1a\n"


@pytest.fixture
def machine(tmp_path):
    """Return what writes control groups, and says where they and the process's membership lie."""

    def _machine(membership, files):
        groups = tmp_path / "cgroup"
        for name, text in files.items():
            (groups / name).parent.mkdir(parents=True, exist_ok=True)
            (groups / name).write_text(text)
        (tmp_path / "membership").write_text(membership)
        return groups, tmp_path / "membership"

    return _machine


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        pytest.param(V2_ROOT, {"cpu.max": "200000 100000\n"}, 2.0, id="v2, the container's group is the root"),
        pytest.param(V2_ROOT, {"cpu.max": "max 100000\n"}, None, id="v2, no quota"),
        pytest.param(V2_ROOT, {"cpu.max": "50000 100000\n"}, 0.5, id="v2, half a core"),
        pytest.param(
            V2_INNER,
            {"system.slice/docker-1a.scope/cpu.max": "max 100000", "system.slice/cpu.max": "300000 100000"},
            3.0,
            id="v2, a group above has one",
        ),
        pytest.param(
            V2_INNER,
            {"system.slice/docker-1a.scope/cpu.max": "150000 100000", "system.slice/cpu.max": "300000 100000"},
            1.5,
            id="v2, the smallest holds",
        ),
        pytest.param("0::/../other\n", {"cpu.max": "100000 100000\n"}, 1.0, id="v2, a name of another namespace"),
        pytest.param(V2_INNER, {"other.slice/cpu.max": "100000 100000"}, None, id="v2, somebody else's quota"),
        pytest.param(
            V1,
            {"cpu,cpuacct/docker/1a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/docker/1a/cpu.cfs_period_us": "100000"},
            4.0,
            id="v1, by its name",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
            id="v1, the container's group is the root",
        ),
        pytest.param(
            V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, id="v1, no quota"
        ),
        pytest.param(
            V1,
            {"memory/docker/1a/cpu.max": "100000 100000", "cpuset/cpu.max": "100000 100000"},
            None,
            id="other controllers",
        ),
        pytest.param(
            "3:cpu:/\n0::/\n",
            {"unified/cpu.max": "max 100000", "cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"},
            1.0,
            id="both kinds",
        ),
        pytest.param(V2_ROOT, {"cpu.max": "a lot\n"}, None, id="nonsense"),
        pytest.param(V2_ROOT, {"cpu.max": "100000 0\n"}, None, id="no period"),
        pytest.param("", {}, None, id="no control groups"),
    ],
)
def test_quota(machine, membership, files, cores):
    assert quota_cores(*machine(membership, files)) == cores


def test_no_files_at_all(tmp_path):
    assert quota_cores(tmp_path / "nothing", tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max", 8), ("200000", 2), ("150000", 2), ("50000", 1), ("3200000", 8)],
    ids=["none", "two", "one and a half", "half", "more than there are"],
)
def test_threads_follow_the_quota(machine, monkeypatch, quota, cores):
    monkeypatch.setattr(threads, "scheduled_cores", lambda: 8)
    assert usable_cores(*machine(V2_ROOT, {"cpu.max": f"{quota} 100000"})) == cores


def test_cores_that_the_kernel_may_use(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _pid: {3, 5, 9}, raising=False)
    assert threads.scheduled_cores() == 3
    monkeypatch.delattr(threads.os, "sched_getaffinity")
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert threads.scheduled_cores() == 1


@pytest.mark.parametrize(
    ("usable", "given", "wanted"),
    [
        pytest.param(8, {}, {"GOMP_SPINCOUNT": "4000"}, id="the whole machine"),
        pytest.param(2, {}, {"GOMP_SPINCOUNT": "4000", "OMP_NUM_THREADS": "2"}, id="a quota"),
        pytest.param(
            2,
            {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"},
            {"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"},
            id="what a person has set",
        ),
        pytest.param(8, {"GOMP_SPINCOUNT": "100"}, {"GOMP_SPINCOUNT": "100"}, id="in libgomp's own words"),
        pytest.param(8, {"KMP_BLOCKTIME": "0"}, {"KMP_BLOCKTIME": "0"}, id="in another OpenMP's"),
        pytest.param(8, {"GOMP_SPINCOUNT": ""}, {"GOMP_SPINCOUNT": "4000"}, id="set to nothing"),
        pytest.param(2, {"OMP_NUM_THREADS": ""}, {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "4000"}, id="no number"),
    ],
)
def test_what_is_added_to_the_environment(monkeypatch, usable, given, wanted):
    monkeypatch.setattr(threads, "scheduled_cores", lambda: 8)
    monkeypatch.setattr(threads, "usable_cores", lambda: usable)
    environ = dict(given)
    prepare_threads(environ)
    assert environ == wanted

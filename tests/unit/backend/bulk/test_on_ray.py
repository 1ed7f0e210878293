"""What is handed to Ray and what comes back, without one: tests/e2e/test_bulk.py has a real one."""

import sys

import pytest
import ray

from backend.bulk.making import ShardReport
from backend.bulk.on_ray import Actor, RayOptions, RayRunner, report_of
from backend.bulk.shards import Chunk
from backend.errors import BackendError
from clipdiy.errors import ClipDiyError

CHUNK = Chunk.of(["a.jpg", "b.jpg"])
ROW = {"name": CHUNK.name, "sources": [*CHUNK.sources]}


class Maker:
    """Makes nothing, or raises."""

    def __init__(self, problem=None):
        self.problem = problem
        self.made = []

    def make(self, chunk):
        if self.problem:
            raise self.problem
        self.made.append(chunk)
        return ShardReport(chunk.name, len(chunk.sources), {"not-found": 1}, (("b.jpg", "not-found", "no"),))


class TestActor:
    def test_reports_come_back_as_they_were(self):
        maker = Maker()
        said = Actor(lambda: maker)(ROW)["said"]
        assert maker.made == [CHUNK]
        assert report_of(said) == Maker().make(CHUNK)

    @pytest.mark.parametrize(
        ("problem", "told"),
        [
            (BackendError("the place refuses"), "the place refuses"),
            (ClipDiyError("weights are missing"), "weights are missing"),
            (ValueError("a bug"), "a process that makes shards failed: ValueError: a bug"),
        ],
    )
    def test_what_goes_wrong_is_told(self, problem, told):
        def cannot_begin():
            raise problem

        for make_maker in (lambda: Maker(problem), cannot_begin):
            with pytest.raises(BackendError) as caught:
                report_of(Actor(make_maker)(ROW)["said"])
            assert str(caught.value) == told

    def test_one_that_cannot_go_on_makes_no_more(self):
        maker = Maker(BackendError("disk full"))
        actor = Actor(lambda: maker)
        actor(ROW)
        maker.problem = None
        with pytest.raises(BackendError, match="disk full"):
            report_of(actor(ROW)["said"])
        assert maker.made == []


@pytest.mark.parametrize(
    ("there", "gpus", "needs"),
    [
        ({"CPU": 8.0}, None, {"num_gpus": 0, "num_cpus": 3}),
        ({"CPU": 8.0, "GPU": 2.0}, None, {"num_gpus": 1, "num_cpus": 1}),
        pytest.param({"CPU": 8.0}, True, {"num_gpus": 1, "num_cpus": 1}, id="a cluster that starts with nothing"),
        pytest.param({"CPU": 8.0, "GPU": 2.0}, False, {"num_gpus": 0, "num_cpus": 3}, id="--device cpu"),
    ],
)
def test_what_an_actor_takes(monkeypatch, there, gpus, needs):
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    assert RayRunner(RayOptions(cores=3, gpus=gpus)).needs() == needs


@pytest.mark.parametrize(
    ("options", "there", "chunks", "most"),
    [
        (RayOptions(cores=2), {"CPU": 8.0}, 10, 4),
        (RayOptions(cores=2), {"CPU": 8.0}, 3, 3),
        (RayOptions(cores=16), {"CPU": 8.0}, 10, 1),
        (RayOptions(), {"CPU": 64.0, "GPU": 2.0}, 10, 2),
        (RayOptions(most=1), {"CPU": 64.0, "GPU": 2.0}, 10, 1),
        pytest.param(RayOptions(most=6, gpus=True), {"CPU": 4.0}, 10, 6, id="a cluster that grows"),
    ],
)
def test_how_many_actors(monkeypatch, options, there, chunks, most):
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    assert RayRunner(options).most_actors(chunks) == most


class TestConnecting:
    @pytest.fixture
    def asked(self, monkeypatch):
        """What Ray was asked to connect to."""
        found = []
        monkeypatch.setattr(ray, "init", lambda **options: found.append(options))
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "shutdown", lambda: found.append("shutdown"))
        return found

    def test_one_of_its_own(self, asked, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
        with RayRunner(RayOptions()):
            pass
        assert asked[0]["address"] == "local", "and not what the environment names"
        assert asked[0]["include_dashboard"] is False
        assert asked[1] == "shutdown"

    def test_a_cluster(self, asked):
        with RayRunner(RayOptions("ray://head:10001")):
            pass
        assert asked[0]["address"] == "ray://head:10001"
        assert "include_dashboard" not in asked[0]

    @pytest.mark.parametrize("problem", [ConnectionError("nobody there\nand more"), ValueError("no address")])
    def test_one_that_cannot_be_reached(self, monkeypatch, problem):
        def refuse(**options):
            raise problem

        monkeypatch.setattr(ray, "init", refuse)
        with pytest.raises(BackendError, match=r"^Ray at auto cannot be reached: (nobody there|no address)$"):
            RayRunner(RayOptions("auto")).__enter__()

    def test_no_address(self):
        with pytest.raises(BackendError, match="--ray takes an address: local, auto"):
            RayOptions("")

    def test_without_ray(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(BackendError, match=r"pip install 'clip-diy-label-studio\[ray\]'"):
            RayRunner(RayOptions()).__enter__()

    def test_nothing_to_do(self, monkeypatch):
        assert [*RayRunner(RayOptions()).run([], Maker)] == []

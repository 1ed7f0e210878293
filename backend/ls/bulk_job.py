"""How the parts of a bulk run are put together, in this process or in one that Ray starts elsewhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.bulk.asking import image_key
from backend.bulk.kept_features import KeptFeatures
from backend.bulk.making import ShardMaker
from backend.bulk.places import Stores, absolute, plain
from backend.bulk.reading import BulkLoader
from backend.bulk.shard_tasks import ShardTasks
from backend.bulk.shards import Shards, versions_in
from backend.errors import BackendError
from backend.predicting.feature_cache import FeatureCache
from backend.predicting.predictor import Predictor
from backend.service import build_predictor, make_loader, read_label_config
from backend.settings import Settings
from clipdiy.method import Method


@dataclass(frozen=True)
class BulkJob:
    """Everything that decides a bulk run but its pictures. Can be sent to other processes.

    Attributes:
        settings: Of the service.
        stores: Open its places.
        xml: The labeling config.
        dest: Where shards go.
        keep_features: Keep features beside them, and use those that are there.
        version: Which one it has to be: weights compute otherwise on another kind of device.
    """

    settings: Settings
    stores: Stores
    xml: str
    dest: str
    keep_features: bool = False
    version: str | None = None

    def as_elsewhere(self, found: "Weights") -> "BulkJob":
        """Return it for processes that are to compute as one of them does."""
        return replace(self, settings=self.settings.model_copy(update={"dtype": found.dtype}), version=found.version)

    def features(self, encoder: str) -> KeptFeatures | None:
        """Return the features beside the shards, `None` if none are wanted."""
        return KeptFeatures(self.stores, self.dest, encoder) if self.keep_features else None


@dataclass(frozen=True)
class Weights:
    """What is found where weights are loaded.

    Attributes:
        version: Under which predictions would be stored.
        dtype: What the networks compute in; a measurement may have decided.
        encoder: `Method.encoder_identity`.
    """

    version: str
    dtype: str
    encoder: str


@dataclass(frozen=True)
class Bulk:
    """A bulk run with its weights loaded; `features` are those kept beside the shards, if that is wanted."""

    predictor: Predictor
    shards: Shards
    maker: ShardMaker
    features: KeptFeatures | None


def build_bulk(job: BulkJob) -> Bulk:
    """Load the weights and connect the parts.

    Raises:
        BackendError: If these weights compute otherwise than they have to.
        LabelConfigError: If the config asks for something that pictures alone cannot answer.
        ClipDiyError: If the weights are not there.
    """
    settings = job.settings
    config = read_label_config(job.xml, settings)
    key = image_key(config)
    loaders: list[BulkLoader] = []

    def loader_of(method: Method[Any]) -> BulkLoader:
        loaders.append(bulk_loader(settings, job.stores, method))
        return loaders[0]

    predictor = build_predictor(settings, loader_of, FeatureCache(None, memory_bytes=0, disk_bytes=0))
    predictor.look_at(config)
    method = predictor.method
    shards = Shards(job.stores, job.dest, predictor.model_version(config))
    if job.version not in (None, shards.version):
        predictor.close()
        raise BackendError(
            f"this process would make {shards.version}, and the others make {job.version}: all machines need the same "
            "weights, device and CLIPDIY_DTYPE"
        )
    described = {
        "version": shards.version,
        "method": method.identity,
        "encoder": method.encoder_identity,
        "labeling_config": job.xml,
        "settings": json.dumps({"preset": settings.preset, "method": settings.method}),
        "description": json.dumps(dict(method.description), sort_keys=True, default=str),
    }
    features = job.features(method.encoder_identity)
    maker = ShardMaker(predictor, loaders[0], config, key, shards, described, features)
    return Bulk(predictor, shards, maker, features)


def bulk_loader(settings: Settings, stores: Stores, method: Method[Any] | None = None) -> BulkLoader:
    """Return what fetches pictures by the names that a bulk run has for them; all their pixels, without a method."""
    images = make_loader(settings, method)
    return BulkLoader(stores, images, max_bytes=settings.max_image_bytes, timeout_s=settings.download_timeout_s)


def open_shards(
    place: str, version: str | None, replaced: Sequence[tuple[str, str]] = ()
) -> tuple[ShardTasks, BulkLoader]:
    """Return the shards in a place as tasks, and what fetches their pictures.

    Args:
        place: `--out` of the run that made them.
        version: Which, where there are several.
        replaced: See `ShardTasks`.

    Raises:
        BackendError: If there are none, or several and none was chosen.
    """
    stores, place = Stores.of(absolute(place)), absolute(place)
    versions = versions_in(stores, place)
    if version is None and len(versions) == 1:
        version = versions[0]
    if version is None or version not in versions:
        there = ", ".join(versions) or "none"
        asked = "which version? (--model-version)" if version is None else f"there is no version {version}"
        raise BackendError(f"{plain(place)}: {asked}; shards there: {there}")
    shards = Shards(stores, plain(place), version)
    known = shards.metadata()
    settings = Settings(**json.loads(known["settings"]))
    xml = known["labeling_config"]
    config = read_label_config(xml, settings)
    return ShardTasks(shards, config, image_key(config), xml, replaced=replaced), bulk_loader(settings, stores)


def look_at_weights(job: BulkJob) -> Weights:
    """Load the weights, and say what they make here."""
    bulk = build_bulk(job)
    bulk.predictor.close()
    method = bulk.predictor.method
    return Weights(bulk.shards.version, str(method.description.get("dtype", "auto")), method.encoder_identity)


def make_maker(job: BulkJob) -> ShardMaker:
    """Do the same where only shards are made."""
    return build_bulk(job).maker

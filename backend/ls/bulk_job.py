"""How the parts of a bulk run are put together, in this process or in one that Ray starts elsewhere."""

import json
from dataclasses import dataclass
from typing import Any

from backend.bulk.asking import image_key
from backend.bulk.kept_features import KeptFeatures
from backend.bulk.making import ShardMaker
from backend.bulk.places import Stores
from backend.bulk.reading import BulkLoader
from backend.bulk.shards import Shards
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
    """

    settings: Settings
    stores: Stores
    xml: str
    dest: str
    keep_features: bool = False


@dataclass(frozen=True)
class Bulk:
    """A bulk run with its weights loaded."""

    predictor: Predictor
    shards: Shards
    maker: ShardMaker


def build_bulk(job: BulkJob) -> Bulk:
    """Load the weights and connect the parts.

    Raises:
        LabelConfigError: If the config asks for something that pictures alone cannot answer.
        ClipDiyError: If the weights are not there.
    """
    settings = job.settings
    config = read_label_config(job.xml, settings)
    key = image_key(config)
    loaders: list[BulkLoader] = []

    def loader_of(method: Method[Any]) -> BulkLoader:
        images = make_loader(settings, method)
        loaders.append(
            BulkLoader(job.stores, images, max_bytes=settings.max_image_bytes, timeout_s=settings.download_timeout_s)
        )
        return loaders[0]

    predictor = build_predictor(settings, loader_of, FeatureCache(None, memory_bytes=0, disk_bytes=0))
    predictor.look_at(config)
    method = predictor.method
    shards = Shards(job.stores, job.dest, predictor.model_version(config))
    described = {
        "version": shards.version,
        "method": method.identity,
        "encoder": method.encoder_identity,
        "labeling_config": job.xml,
        "description": json.dumps(dict(method.description), sort_keys=True, default=str),
    }
    features = KeptFeatures(job.stores, job.dest, method.encoder_identity) if job.keep_features else None
    return Bulk(predictor, shards, ShardMaker(predictor, loaders[0], config, key, shards, described, features))


def make_maker(job: BulkJob) -> ShardMaker:
    """Do the same where only shards are made."""
    return build_bulk(job).maker

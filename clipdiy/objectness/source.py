"""Where objectness comes from, by name: a registry, so that another source is one entry.

To add one, write a class that fits `ObjectnessNetwork` and call `register_objectness` with an `ObjectnessSource`. It is
then what `ObjectnessConfig(method=NAME)` means: its files are listed, fetched and checked with the others, its weights
are part of the identity of all that is computed, and what it gives goes into Eq. 3. Nothing here imports torch: what
loads a network imports it when it is called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clipdiy.config import CoreConfig, ObjectnessConfig
from clipdiy.errors import ConfigError
from clipdiy.weights import WeightFile, found_files

if TYPE_CHECKING:
    import torch

    from clipdiy.objectness.found import ObjectnessMap


class ObjectnessNetwork(Protocol):
    """A loaded network that objectness is read off, in one way or several. Stateless; called from any thread."""

    @property
    def ways(self) -> Sequence[str]:
        """Names of the sources that it serves."""

    def grid_hw(self, size_hw: tuple[int, int], config: ObjectnessConfig) -> tuple[int, int]:
        """Return rows and columns of the map of a photo of this size: what it costs to keep."""

    def maps(
        self, images: "Sequence[torch.Tensor]", config: ObjectnessConfig, ways: Sequence[str]
    ) -> "dict[str, list[ObjectnessMap]]":
        """Run once over images and read the result off in every way that is asked for.

        Args:
            images: (3, H, W) uint8 each, of any sizes, on the network's device.
            config: At what size the network is to see them.
            ways: Some of `ways`.

        Returns:
            By way, one map for each image, in order, on the CPU.
        """


@dataclass(frozen=True)
class LoadedObjectness:
    """A network with the digests of what it was loaded from.

    Attributes:
        network: On its device, in its dtype.
        digests: SHA-256 of every file, by a name that does not depend on where it lies.
    """

    network: ObjectnessNetwork
    digests: Mapping[str, str]


@dataclass(frozen=True)
class ObjectnessSource:
    """One way to say how likely each pixel lies on an object.

    Attributes:
        name: What `ObjectnessConfig.method` calls it.
        required_files: What has to be fetched for it under a configuration; empty for what is bundled.
        load: Loads its network: the configuration, the folder of the downloaded weights, the device and the dtype that
            the image towers compute in. `None` for a source that gives no objectness at all.
    """

    name: str
    required_files: Callable[[CoreConfig], tuple[WeightFile, ...]]
    load: "Callable[[CoreConfig, Path, torch.device, torch.dtype], LoadedObjectness] | None"


def register_objectness(source: ObjectnessSource) -> None:
    """Make a source known by its name, in this process.

    Raises:
        ConfigError: If the name is taken.
    """
    if source.name in OBJECTNESS_SOURCES:
        raise ConfigError(f"there is an objectness source {source.name!r} already")
    OBJECTNESS_SOURCES[source.name] = source


def objectness_named(name: str) -> ObjectnessSource:
    """Return a source by its name.

    Raises:
        ConfigError: If there is none. Names those there are.
    """
    if name not in OBJECTNESS_SOURCES:
        raise ConfigError(f"objectness must be one of {', '.join(OBJECTNESS_SOURCES)}, got {name!r}")
    return OBJECTNESS_SOURCES[name]


def _found_files(config: CoreConfig) -> tuple[WeightFile, ...]:
    return found_files(config.found)


def _load_found(
    config: CoreConfig, weights_dir: Path, device: "torch.device", dtype: "torch.dtype"
) -> LoadedObjectness:
    from clipdiy.objectness.loading import load_found, locate_found
    from clipdiy.patches import with_patch_products

    files = locate_found(config.found, weights_dir)
    network = load_found(files).to(device=device, dtype=dtype)
    if device.type == "cuda":
        with_patch_products(network)
    return LoadedObjectness(network, files.digests)


OBJECTNESS_SOURCES: dict[str, ObjectnessSource] = {
    source.name: source
    for source in (
        ObjectnessSource("found", _found_files, _load_found),
        ObjectnessSource("found-bkg", _found_files, _load_found),
        ObjectnessSource("none", lambda _config: (), None),
    )
}

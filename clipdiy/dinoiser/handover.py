"""How the image tower that is read patch by patch is handed over to a runtime."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from clipdiy.clip import ClipEncoder
from clipdiy.config import RuntimeName
from clipdiy.crops import resize_uint8
from clipdiy.dinoiser.tower import PatchTower, VitTower, fit_positions, patch_tower
from clipdiy.errors import ConfigError
from clipdiy.runtimes.handover import CHECK_SCENE, Tower, hand_over
from clipdiy.runtimes.runtime import Inputs
from clipdiy.runtimes.samples import sample_picture

SIDE_PX = 224


class VitTowerBody(nn.Module):
    """`VitTower.body` with one output: (1, h * w, width + D) float32.

    The position embedding is an input: interpolated inside an exported graph it would drift from torch's.
    """

    def __init__(self, tower: VitTower) -> None:
        """Take a tower in float32 on the CPU."""
        super().__init__()
        self.tower = tower

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Run the body, and lay its outputs side by side."""
        return torch.cat(self.tower.body(images, positions), dim=2)


def tower_executed_by(name: RuntimeName, clip: ClipEncoder, *, folder: Path | None, weights_id: str) -> PatchTower:
    """Return CLIP's image tower, read patch by patch, with a runtime to execute it.

    Args:
        name: Which; not `torch`.
        clip: In float32 on the CPU.
        folder: Where converted files are kept; without it they are made again at every start.
        weights_id: Changes with the weights.

    Raises:
        ConfigError: If the tower is no ViT, or the runtime is not installed. Names the extra.
        RuntimeCheckError: If its outputs differ too much from torch's.
    """
    tower = patch_tower(clip.network.visual)
    if not isinstance(tower, VitTower):
        raise ConfigError(
            f"runtime {name!r} executes the ViTs of clip-dinoiser, and this CLIP has a ResNet, as the starter has: "
            "leave runtime at torch"
        )
    side_px = -(-SIDE_PX // tower.patch_px) * tower.patch_px

    def ready(scene: int) -> Inputs:
        picture = resize_uint8(sample_picture(scene)[None], (side_px, side_px), "bicubic")
        grid_hw = side_px // tower.patch_px, side_px // tower.patch_px
        return clip.normalise(picture), fit_positions(tower.visual.positional_embedding, grid_hw)

    def patches(output: Tensor) -> Sequence[Tensor]:
        return [part.flatten(0, 1) for part in output.split([tower.width, tower.embed_dim], dim=2)]

    axes = {"images": {2: "height", 3: "width"}, "positions": {0: "tokens"}}
    calibration = [ready(scene) for scene in range(2, 8)]
    handed = Tower("patches", VitTowerBody(tower), axes, calibration, ready(CHECK_SCENE), patches)
    engine = hand_over(name, [handed], clip.input_px, folder=folder, weights_id=weights_id)["patches"]
    return VitTower(tower.visual, engine)

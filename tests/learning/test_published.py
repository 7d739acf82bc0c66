"""Published checkpoints in both namings give what torch's own modules compute from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from reefleet.errors import ConfigError, DamagedFile, MissingFile
from reefleet.learning.heads import head_logits
from reefleet.learning.published import Imported, convert, read
from reefleet.model import ConvGeometry, ModelSpec
from reefleet.wire.checkpoint import check

SPEC = ModelSpec(24, 4, 3, 16, 2, 3, 5, (1, 3))
CLASSES = 7


class PlainViT(nn.Module):
    """A ViT with final norm and head, made of torch's own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.positions = nn.Parameter(torch.zeros(1, 37, 16))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", 1e-6, True, norm_first=True)
            for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(16, 1e-6), nn.Linear(16, CLASSES)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, 0.3, generator)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(images), 1, 16), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


# Ours in the middle; torch's layer on the left, and the two published namings of a block.
LAYERS = {
    "norm1": ("norm1", "layernorm_before"),
    "self_attn.out_proj": ("attn.proj", "attention.output.dense"),
    "norm2": ("norm2", "layernorm_after"),
    "linear1": ("mlp.fc1", "intermediate.dense"),
    "linear2": ("mlp.fc2", "output.dense"),
}


def timm_names(model: PlainViT) -> dict[str, Tensor]:
    state = model.state_dict()
    named = {
        "cls_token": state["token"],
        "pos_embed": state["positions"],
        **{f"patch_embed.proj.{part}": state[f"patches.{part}"] for part in ("weight", "bias")},
        **{f"{n}.{part}": state[f"{n}.{part}"] for n in ("norm", "head") for part in PARTS},
    }
    for index in range(3):
        for part in PARTS:
            qkv = state[f"blocks.{index}.self_attn.in_proj_{part}"]
            named[f"blocks.{index}.attn.qkv.{part}"] = qkv
            for layer, (name, _) in LAYERS.items():
                named[f"blocks.{index}.{name}.{part}"] = state[f"blocks.{index}.{layer}.{part}"]
    return named


def transformers_names(model: PlainViT) -> dict[str, Tensor]:
    state = model.state_dict()
    embeddings = "vit.embeddings."
    named = {
        embeddings + "cls_token": state["token"],
        embeddings + "position_embeddings": state["positions"],
    }
    for part in PARTS:
        named[f"{embeddings}patch_embeddings.projection.{part}"] = state[f"patches.{part}"]
        named[f"vit.layernorm.{part}"] = state[f"norm.{part}"]
        named[f"classifier.{part}"] = state[f"head.{part}"]
    for index in range(3):
        prefix = f"vit.encoder.layer.{index}."
        for part in PARTS:
            for layer, (_, name) in LAYERS.items():
                named[f"{prefix}{name}.{part}"] = state[f"blocks.{index}.{layer}.{part}"]
            thirds = state[f"blocks.{index}.self_attn.in_proj_{part}"].chunk(3)
            for name, third in zip(("query", "key", "value"), thirds, strict=True):
                named[f"{prefix}attention.attention.{name}.{part}"] = third.clone()
    return named


PARTS = ("weight", "bias")
NAMINGS = {"timm": timm_names, "transformers": transformers_names}


def images(size: int = 24, channels: int = 3) -> Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(8))


def logits(imported: Imported, model: PlainViT, spec: ModelSpec, x: Tensor) -> Tensor:
    """Our computation, with the published norm and head at the last exit."""
    params = {name: torch.from_numpy(value) for name, value in imported.weights.items()}
    for number in spec.exits:
        prefix = f"exits.{number}."
        params |= {f"{prefix}norm.{part}": getattr(model.norm, part) for part in PARTS}
        params |= {prefix + part: getattr(model.head, part) for part in PARTS}
    return head_logits(params, replace(spec, classes=CLASSES), spec.depth, x)[:, -1]


@pytest.mark.parametrize("naming", NAMINGS)
def test_logits_equal_those_of_the_plain_vit(naming: str, tmp_path: Path) -> None:
    model = PlainViT().eval()
    save_file(NAMINGS[naming](model), tmp_path / "published.safetensors")
    imported = read(tmp_path / "published.safetensors", SPEC, seed=0)
    assert imported.naming == naming
    assert len(imported.dropped) == 4
    assert imported.changed == ()
    check(imported.weights, SPEC, "imported")
    with torch.no_grad():
        found = logits(imported, model, SPEC, images())
        torch.testing.assert_close(found, model(images()), rtol=1e-4, atol=1e-5)


def test_what_the_file_has_not_is_made_from_the_seed() -> None:
    first, second = (convert(timm_names(PlainViT()), SPEC, seed, "file") for seed in (0, 1))
    assert all(name.startswith(("ree.", "head.")) for name in first.made)
    assert set(first.made) | set(first.loaded) == set(first.weights)
    assert (first.weights["head.weight"] != second.weights["head.weight"]).any()
    assert (first.weights["cls_token"] == second.weights["cls_token"]).all()


def test_a_smaller_patch_reads_what_the_published_one_reads_of_the_enlarged_patch() -> None:
    model, small = PlainViT().eval(), replace(SPEC, image_size=12, patch_size=2)
    imported = convert(timm_names(model), small, 0, "file")
    assert imported.changed == ("patch_embed from 4 x 4 pixels to 2 x 2",)
    patch = images(2)
    enlarged = F.interpolate(patch, (4, 4), mode="bilinear", align_corners=False)
    weight = torch.from_numpy(imported.weights["patch_embed.weight"])
    expected = F.conv2d(enlarged, model.patches.weight)[:, :, 0, 0]
    torch.testing.assert_close(patch.flatten(1) @ weight.T, expected, rtol=1e-4, atol=1e-5)


def test_a_grey_image_reads_as_three_equal_channels() -> None:
    model, grey = PlainViT().eval(), replace(SPEC, channels=1)
    imported = convert(timm_names(model), grey, 0, "file")
    assert imported.changed == ("patch_embed from 3 channels to 1",)
    x = images(channels=1)
    with torch.no_grad():
        found = logits(imported, model, grey, x)
        torch.testing.assert_close(found, model(x.expand(4, 3, 24, 24)), rtol=1e-4, atol=1e-5)


def test_position_embeddings_keep_a_plane_when_the_grid_changes() -> None:
    named = timm_names(PlainViT())
    rows = torch.arange(6.0).repeat_interleave(6)
    named["pos_embed"] = torch.cat([torch.full((1,), 9.0), rows])[None, :, None].expand(1, 37, 16)
    wide = replace(SPEC, image_size=48, image_width=12)
    imported = convert(named, wide, 0, "file")
    assert imported.changed == ("pos_embed from 6 x 6 to 12 x 3",)
    found = torch.from_numpy(imported.weights["pos_embed"])
    assert (found[0] == 9.0).all()
    grid = found[1:, 0].reshape(12, 3)
    torch.testing.assert_close(grid[:, 0], grid[:, 2])
    torch.testing.assert_close(grid[4:8, 0], torch.tensor([1.75, 2.25, 2.75, 3.25]))


def test_a_shallower_model_takes_the_first_blocks() -> None:
    shallow = replace(SPEC, depth=1, exits=(1,))
    imported = convert(timm_names(PlainViT()), shallow, 0, "file")
    assert "blocks.2.mlp.fc2.bias" in imported.dropped
    check(imported.weights, shallow, "imported")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"blocks.1.attn.qkv.bias": None}, "tensor 'blocks.1.attn.qkv.bias' is missing"),
        ({"blocks.0.ls1.gamma": torch.zeros(16)}, "'blocks.0.ls1.gamma' is unknown"),
        ({"dist_token": torch.zeros(1, 1, 16)}, r"distilled model \(dist_token\)"),
        ({"blocks.0.mlp.fc1.bias": torch.zeros(3)}, r"blocks.0.mlp.fc1.bias has shape \(3,\)"),
        ({"cls_token": torch.full((1, 1, 16), torch.nan)}, "cls_token holds NaN"),
        ({"pos_embed": torch.zeros(1, 36, 16)}, "35 position embeddings are no square grid"),
        ({"patch_embed.proj.weight": torch.zeros(16, 48)}, "no 2-D convolution"),
        ({"patch_embed.proj.weight": None}, "no ViT with the tensor names of timm"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    change: dict[str, Tensor | None], text: str
) -> None:
    named = {k: v for k, v in {**timm_names(PlainViT()), **change}.items() if v is not None}
    with pytest.raises(DamagedFile, match=text):
        convert(named, SPEC, 0, "file")


def test_a_distilled_model_of_transformers_is_refused() -> None:
    named = transformers_names(PlainViT())
    named["deit.embeddings.distillation_token"] = torch.zeros(1, 1, 16)
    with pytest.raises(DamagedFile, match="distilled"):
        convert(named, SPEC, 0, "file")


def test_a_convolutional_contract_is_refused() -> None:
    spec = replace(SPEC, heads=1, conv=ConvGeometry(4, (4,) * 3, (1,) * 3))
    with pytest.raises(ConfigError, match="is a ViT; the contract is of a conv model"):
        convert(timm_names(PlainViT()), spec, 0, "file")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="no checkpoint"):
        read(tmp_path / "none.safetensors", SPEC, 0)
    (tmp_path / "text.safetensors").write_text("weights")
    with pytest.raises(DamagedFile, match="not a safetensors file"):
        read(tmp_path / "text.safetensors", SPEC, 0)

"""The paper's tables: rows, columns and the numbers printed there, each row with what makes ours.

Percentages as printed. A row of `literature` is quoted by the paper from others and is not measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Origin = Literal["literature", "experiment", "supervised", "published", "mfcc", "forest", "random"]
LAYERS = ("conv4", "conv5", "pool5", "conv6", "conv7", "conv8")
LOSSES = "Loss and teachers"
DEPTH = "Depth and visual transfer"


@dataclass(frozen=True)
class Row:
    """`name` is the file in conf/experiment (or the student of a supervised run) that makes this row's checkpoint."""

    title: str
    paper: tuple[float | None, ...]  # percent, a value per column; None where the paper has none
    origin: Origin
    name: str = ""
    layer: str = "pool5"
    benchmark: str = ""  # where the columns do not say it
    group: str = ""


@dataclass(frozen=True)
class Column:
    """A column stands for a benchmark, a layer, or the modality of Table 7."""

    title: str
    benchmark: str = ""
    layer: str = ""
    modality: str = ""


@dataclass(frozen=True)
class Table:
    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.paper) != len(self.columns):
                raise ValueError(
                    f"table {self.number}, {row.title}: {len(row.paper)} numbers, {len(self.columns)} columns"
                )


ESC = (Column("ESC-50", "esc50"), Column("ESC-10", "esc10"))
BY_LAYER = tuple(Column(layer, layer=layer) for layer in LAYERS)
NOT_PRINTED = (None,) * len(LAYERS)

TABLE3 = Table(
    3,
    "Acoustic scene classification on DCASE",
    (Column("DCASE 2013", "dcase2013"),),
    (
        Row("RG [29]", (69,), "literature"),
        Row("LTT [21]", (72,), "literature"),
        Row("RNH [30]", (77,), "literature"),
        Row("Ensemble [34]", (78,), "literature"),
        Row("SoundNet", (88,), "experiment", "soundnet8_vgg16"),
        Row("SoundNet, the published weights", (88,), "published"),
        Row("SoundNet8 that learned nothing", (None,), "random"),
        Row("MFCC statistics, linear SVM", (None,), "mfcc"),
    ),
)
TABLE4 = Table(
    4,
    "Acoustic scene classification on ESC-50 and ESC-10",
    ESC,
    (
        Row("SVM-MFCC [28]", (39.6, 67.5), "mfcc"),
        Row("Convolutional autoencoder", (39.9, 74.3), "experiment", "autoencoder", layer="conv4"),
        Row("Random forest [28]", (44.3, 72.7), "forest"),
        Row("Piczak ConvNet [27]", (64.5, 81.0), "literature"),
        Row("SoundNet", (74.2, 92.2), "experiment", "soundnet8_alexnet"),
        Row("SoundNet, the published weights", (74.2, 92.2), "published"),
        Row("SoundNet8 that learned nothing", (None, None), "random"),
        Row("Human performance [28]", (81.3, 95.7), "literature"),
    ),
    "74.2 % is pool5 of the AlexNet row of Table 6; 92.2 % is what Table 5 has for VGG.",
)
TABLE5 = Table(
    5,
    "Ablation: loss, teachers, depth, with pool5 of SoundNet trained by VGG",
    ESC,
    (
        Row("8 layers, l2 loss", (47.8, 81.5), "experiment", "soundnet8_vgg16_l2", group=LOSSES),
        Row("8 layers, KL loss", (72.9, 92.2), "experiment", "soundnet8_vgg16", group=LOSSES),
        Row("8 layers, ImageNet only", (69.5, 89.8), "experiment", "soundnet8_vgg16_objects", group=LOSSES),
        Row("8 layers, Places only", (71.1, 89.5), "experiment", "soundnet8_vgg16_scenes", group=LOSSES),
        Row("8 layers, both", (72.9, 92.2), "experiment", "soundnet8_vgg16", group=LOSSES),
        Row("5 layers, from scratch", (65.0, 82.3), "supervised", "soundnet5", group=DEPTH),
        Row("8 layers, from scratch", (51.1, 75.5), "supervised", "soundnet8", group=DEPTH),
        Row("5 layers, unlabeled video", (66.1, 86.8), "experiment", "soundnet5_vgg16", layer="conv4", group=DEPTH),
        Row("8 layers, unlabeled video", (72.9, 92.2), "experiment", "soundnet8_vgg16", group=DEPTH),
    ),
    "The 5-layer network has no pool5: its last hidden layer, conv4, stands there.",
)
TABLE6 = Table(
    6,
    "Which layer and teacher give better features?",
    BY_LAYER,
    (
        Row(
            "AlexNet", (84, 85, 84, 83, 78, 68), "experiment", "soundnet8_alexnet", benchmark="dcase2013", group="DCASE"
        ),
        Row("VGG", (77, 88, 88, 87, 84, 74), "experiment", "soundnet8_vgg16", benchmark="dcase2013", group="DCASE"),
        Row("published weights", NOT_PRINTED, "published", benchmark="dcase2013", group="DCASE"),
        Row(
            "AlexNet",
            (66.0, 71.2, 74.2, 74, 63.8, 45.7),
            "experiment",
            "soundnet8_alexnet",
            benchmark="esc50",
            group="ESC-50",
        ),
        Row(
            "VGG",
            (66.0, 69.3, 72.9, 73.3, 59.8, 43.7),
            "experiment",
            "soundnet8_vgg16",
            benchmark="esc50",
            group="ESC-50",
        ),
        Row("published weights", NOT_PRINTED, "published", benchmark="esc50", group="ESC-50"),
        Row("published weights", NOT_PRINTED, "published", benchmark="esc10", group="ESC-10"),
    ),
    "ESC-10 is not in the paper's Table 6.",
)
TABLE7 = Table(
    7,
    "Multi-modal recognition",
    (Column("sound", modality="sound"), Column("vision", modality="vision"), Column("both", modality="both")),
    (
        Row("8 layers, conv7", (32.4, 49.4, 51.4), "experiment", "soundnet8_vgg16", layer="conv7"),
        Row("8 layers, conv8", (32.3, 49.4, 50.5), "experiment", "soundnet8_vgg16", layer="conv8"),
        Row("published weights, conv7", (None, None, None), "published", layer="conv7"),
    ),
    "On the authors' labelled videos; ours are those in videos=...",
)
TABLES = (TABLE3, TABLE4, TABLE5, TABLE6, TABLE7)
BENCHMARKS = sorted(
    {row.benchmark for table in TABLES for row in table.rows}.union(
        column.benchmark for table in TABLES for column in table.columns
    )
    - {""}
)

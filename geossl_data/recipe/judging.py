"""Options of judging encoders."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from geossl_data.recipe.section import Section

EVALUATION_TASKS = (
    "classification", "multilabel", "segmentation", "change", "retrieval", "cross-sensor", "events", "geolocation",
)  # fmt: skip


def _tasks(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if value != "all" and not (set(names) <= set(EVALUATION_TASKS) and len(set(names)) == len(names)):
        raise ValueError(f"{value!r} is not all, or some of {', '.join(EVALUATION_TASKS)}")
    return value


def parse_fractions(text: str) -> tuple[float, ...]:
    """`1,10,100` percent as shares in (0, 1], ascending; ValueError where it is not that."""
    try:
        shares = sorted(float(part) / 100 for part in text.split(","))
    except ValueError:
        shares = []
    if not shares or not all(0 < share <= 1 for share in shares) or len(set(shares)) < len(shares):
        raise ValueError(f"{text!r} is not percents above 0 up to 100, as in 1,10,100")
    return tuple(shares)


def _fractions(value: Any) -> Any:
    text = str(value)
    parse_fractions(text)
    return text


class EvaluateOptions(Section):
    name: ClassVar[str] = "evaluate"
    summary: ClassVar[str] = (
        "Judge an encoder by labelled places, beside a random one and a supervised one of the same shape."
    )
    example: ClassVar[str] = "geossl evaluate mydata --run default --task classification,segmentation"

    run: str = Field("default", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Name of the folder below runs/.")
    encoder: str = Field(
        "",
        description="Exported encoder to judge instead of the run's: a safetensors file, a run's folder, or several "
        "with commas; its scores go to evaluations/.",
    )
    task: Annotated[str, AfterValidator(_tasks)] = Field(
        "classification",
        description="What to judge by, several with commas: classification, multilabel (land classes); segmentation, "
        "change (maps); retrieval (of one class), cross-sensor (of one place), events (places that changed), "
        "geolocation; all: what the labels allow.",
    )
    target: str = Field(
        "", description="Member with the class maps of segmentation and change; left out: label, or the only one."
    )
    fractions: Annotated[str, BeforeValidator(_fractions)] = Field(
        "100", description="Percents of the labelled train places that teach, as in 1,10,100."
    )
    seeds: int = Field(3, ge=1, le=100, description="Random encoders, label subsets and trained heads of each kind.")
    k: int = Field(20, ge=1, le=1000, description="Neighbours of the kNN probe.")
    temperature: float = Field(0.07, gt=0, le=10, description="Temperature of their vote.")
    ridge: float = Field(1.0, gt=0, description="Regularisation of the closed-form linear probe.")
    statistics: str = Field(
        "auto",
        description="Means and deviations that images are standardised by: encoder (those it was trained with), own "
        "(of the labelled train split), a JSON file {band: [mean, deviation]}; auto: the encoder's where units agree.",
    )
    epochs: int = Field(
        20, ge=1, le=10_000, description="Passes of decoders, fine-tuning and supervised training over the labels."
    )
    crop: int = Field(0, ge=0, le=2046, description="Side of the crops of supervised training, pixels; 0: whole looks.")
    supervised: bool = Field(True, description="Train encoders of the same shape with the labels alone to compare.")
    finetune: bool = Field(False, description="Segmentation and change: also train the encoder on with the labels.")
    event_percent: float = Field(
        5.0, gt=0, le=100, description="Part of a place that has to change to be an event, percent."
    )
    batch_size: int = Field(64, ge=2, description="Looks per forward pass; training takes half of it.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    seed: int = Field(0, ge=0, description="First seed of random encoders, label subsets and heads.")

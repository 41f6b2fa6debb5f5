"""The same question on real floods: may before and after a flood be positives of each other?

python examples/claims/change_ombria.py WORK
"""

from pairs_ombria import shards
from study import Score, Study, main

STUDY = Study(
    name="change_ombria",
    title="Before and after as positives, on real floods",
    claim="""
    What CACo rests on: a place that changed between two dates must not be its own positive across them.
    """,
    setting="""
    OMBRIA has one picture before and one after each flood, too few for seasonal contrast, so SeCo and CACo
    themselves cannot be trained on it. Asked is the reason for them: MoCo whose positives are augmentations of
    one picture against MoCo whose positives are the pictures before and after, augmented in the same way, for as
    many steps. Judged by maps of what was flooded, told from both pictures, all train masks teaching.
    """,
    base={
        "pretrain": {
            "objective": "moco",
            "sensors": "s2",
            "queue": 256,
            "optimizer": "adamw",
            "learning_rate": 5e-4,
            "epochs": 30,
            "crop": 64,
        },
        "evaluate": {"task": "change,segmentation", "fractions": "100", "epochs": 10, "crop": 128},
    },
    arms={
        "augment": {"pretrain.views": "augment"},
        # Nobody says when the pictures are from, so that all of a site count as of one year: its dates, not its years.
        "before-after": {"pretrain.views": "season,augment", "pretrain.epochs": 60},
    },
    comparisons=[("augment", "before-after")],
    scores=[
        Score(task="change", probe="decoder", metric="F1", fraction=1.0),
        Score(task="segmentation", probe="decoder", metric="IoU water", fraction=1.0),
    ],
    shards=shards,
    note="""
    It does not show here: positives across a flood do no harm, neither to maps of what was flooded nor to maps of
    water. But there is little that could be harmed: under a decoder that all train masks teach, either encoder is at
    most a point and a half ahead of random weights. So this says that 153 sites teach too little to answer it, not
    that the reason is wrong; the sandbox's answer is the section on change-aware negatives.
    """,
)

if __name__ == "__main__":
    main(STUDY)

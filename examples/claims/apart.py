"""Before any claim: can the sandbox tell methods apart at all?

python examples/claims/apart.py WORK
"""

from study import Score, Study, main

STUDY = Study(
    name="apart",
    title="Does the sandbox tell methods apart?",
    claim="""
    A planet on which a random encoder does as well as one that is trained with all labels, or on which everything is
    found, would decide no claim.
    """,
    setting="""
    The sandbox's world, Sentinel-2, a quarter of the labels. An encoder trained with augmentations (SimCLR), a random
    one and one that is trained with the labels alone, all of one shape; decoders and supervised encoders learn for 20
    passes. One seed: it is asked how far apart they are, not which is better.
    """,
    base={
        "pretrain": {
            "objective": "simclr",
            "sensors": "s2",
            "views": "augment",
            "optimizer": "adamw",
            "learning_rate": 5e-4,
            "temperature": 0.2,
        },
        "evaluate": {"task": "classification,segmentation,change", "supervised": True, "epochs": 20, "crop": 36},
    },
    arms={"augment": {}},
    comparisons=[],
    seeds=(0,),
    scores=[
        Score(task="classification", probe="ridge", metric="accuracy"),
        Score(task="segmentation", probe="decoder", metric="mIoU"),
        Score(task="segmentation", probe="decoder", metric="IoU water"),
        Score(task="change", probe="decoder", metric="F1"),
    ],
    note="""
    Trained with the labels alone an encoder is 37 points ahead of a random one on the class of a look, 18 on maps, 9
    on change, and none is near the ceiling: there is room to tell methods apart, least on change. Water is told by its
    colour, whatever the encoder: five points lie between random and supervised, and pretraining takes nearly all of
    them, so that no claim can be decided on it here.
    """,
)

if __name__ == "__main__":
    main(STUDY)

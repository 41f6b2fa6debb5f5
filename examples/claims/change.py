"""Claim: negatives from other years, where a place changed, teach what changes.

python examples/claims/change.py WORK
"""

from study import Score, Study, main

STUDY = Study(
    name="change",
    title="Change-aware negatives against seasonal contrast and MoCo",
    claim="""
    Long-term negatives at places that changed (CACo, Mall, Hariharan and Bala 2023) teach better encoders for
    change detection and segmentation than seasonal contrast alone (SeCo) and than MoCo with augmentations.
    """,
    setting="""
    The sandbox's world, where floods, clear-cuts, burns and new towns are planted between 2021 and 2023. Six
    looks a place: three seasons in each of the two years. Sentinel-2 only, as in the paper. The same looks,
    about as many of them seen; a queue of 1024. Judged on regions that training never saw, with a quarter of the
    labels.
    """,
    base={
        "pretrain": {
            "sensors": "s2",
            "queue": 1024,
            "optimizer": "adamw",
            "learning_rate": 5e-4,
        },
        "evaluate": {"task": "classification,segmentation,change,events"},
    },
    arms={
        "caco": {"pretrain.objective": "caco", "pretrain.epochs": 9},
        "seco": {"pretrain.objective": "seco", "pretrain.epochs": 9},
        "moco": {"pretrain.objective": "moco", "pretrain.views": "augment"},
    },
    comparisons=[("caco", "seco"), ("caco", "moco"), ("seco", "moco")],
    scores=[
        Score(task="change", probe="decoder", metric="F1"),
        Score(task="segmentation", probe="decoder", metric="mIoU"),
        Score(task="classification", probe="ridge", metric="accuracy"),
        Score(task="events", probe="distance", metric="AP", fraction=1.0),
    ],
    note="""
    That CACo is ahead of SeCo is not seen here: all four differences are under a point or within their intervals. Both
    are ahead of MoCo with augmentations where features are compared as they are, on the class of a look and on finding
    places where something changed; on maps, where a decoder learns, the three are alike. A reason may be that changed
    places are few (CACo's negatives over years matter only there) and training is short; the paper trains on 100,000
    and a million images. MoCo alone ranks changed places worse than a random encoder does.
    """,
)

if __name__ == "__main__":
    main(STUDY)

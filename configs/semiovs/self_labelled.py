# UniMatch, foggy scenes among the unlabelled ones: it labels them itself.
_base_ = "./unimatch.py"

_pipeline = _base_.unlabelled["pipeline"]
_both = [_base_.unlabelled, dict(_base_.fog, pipeline=_pipeline)]
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            datasets=[_base_.labelled, dict(type="ConcatDataset", datasets=_both)]
        )
    )
)

import pytest

from detector.errors import DetectorConfigError
from detector.published.yaml_keys import config_from_settings
from detector.training.config import DetectorTraining
from detector.training.published_settings import training_from_settings


def test_without_settings_training_is_the_published_one() -> None:
    assert training_from_settings({}) == DetectorTraining()


def test_training_settings_have_their_places() -> None:
    training = training_from_settings(
        {
            "MODEL.RPN.PRE_NMS_TOP_N_TRAIN": 400,
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
            "MODEL.ROI_ATTRIBUTE_HEAD.LOSS_WEIGHT": 0.25,
            "SOLVER.STEPS": [10, 20],
            "SOLVER.MAX_ITER": 30,
        }
    )
    assert (training.pre_nms_top_n, training.regions_per_image) == (400, 64)
    assert training.attribute_loss_weight == 0.25
    assert (training.decay_steps, training.num_steps) == ((10, 20), 30)


def test_training_names_are_known_to_the_network_and_others_are_refused() -> None:
    config_from_settings({"SOLVER.BASE_LR": 0.1, "MODEL.RPN.FG_IOU_THRESHOLD": 0.6})
    with pytest.raises(DetectorConfigError, match=r"unknown name 'MODEL\.RNP'"):
        config_from_settings({"MODEL.RNP": 1})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_steps": 0}, "`num_steps` must be at least 1"),
        ({"cache_trunk": True, "frozen_stages": 0}, "`cache_trunk` needs `frozen_stages`"),
    ],
)
def test_a_training_that_cannot_run_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DetectorConfigError, match=said):
        DetectorTraining(**changes)

"""Published numbers of the detector, each with its source.

"SGB" is microsoft/scene_graph_benchmark; all values are facts of `specs/detector.md` 2.1.
"""

NUM_CLASSES = 1595  # 1594 objects + background 0; SGB sgg_configs/vgattr/vinvl_x152c4.yaml
NUM_ATTRIBUTES = 525  # 524 attributes + "no attribute" 0; the same file
PIXEL_MEAN_BGR = (103.530, 116.280, 123.675)  # 0..255; the same file
IMAGENET_MEAN_RGB = (123.675, 116.28, 103.53)  # 0..255; torchvision's ImageNet preprocessing
IMAGENET_STD_RGB = (58.395, 57.12, 57.375)  # 0..255; the same
ANCHOR_STRIDE = 16  # pixels of the network input per cell of C4
PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # box coder of the proposal network; spec 4.4
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # ROI_HEADS.BBOX_REG_WEIGHTS
LARGEST_SCALE_RATIO = 1000.0 / 16.0  # exp(dw) is capped at this; maskrcnn box_coder.py
FILTER1_OVERLAP = 0.3  # written into SGB box_head/inference.py:filter_results_peter
FILTER2_CANDIDATE_SHARE = 0.01  # of the threshold; SGB box_head/inference.py:filter_results_fast
STAND_IN_ATTRIBUTE = "(none)"  # ours: the only name of a data set without attributes; never told
NUM_THRESHOLD_TRIES = 10  # SGB box_head/inference.py, the loop around filters 0 and 1

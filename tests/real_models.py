"""The real models that tests find in the folder SQC_TEST_DATA."""

MODELS = (
    "anomaly_fc_ae",
    "cifar10_resnet20",
    "cifar10_resnet32",
    "imagenet_mobilenet_v1_0.5_160",
    "imagenet_mobilenet_v2",
    "imagenet_mobilenet_v3_small",
    "imagenet_squeezenet1_1",
    "kws_dscnn",
    "mlperf_tiny_resnet8_cifar10",
    "ultraface_slim_320",
    "vww_mobilenet_v1_0.25_96",
)

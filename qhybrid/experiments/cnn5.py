"""`cnn5`: five convolutions of 70 thousand parameters, for images of 28 pixels and more."""

from torch import nn

WIDTHS = (16, 32, 32, 64, 64)
"""Channels behind each convolution; 69 968 parameters in all."""
HALVED_BEHIND = (2, 4)
"""Convolutions behind which height and width are halved: 28 pixels become 7, and each of these sees 24."""


def cnn5() -> nn.Sequential:
    """Build the network: (B, 3, H, W) -> (B, 64, H/4, W/4), not negative.

    Five times a 3 x 3 convolution, batch normalisation and ReLU; maximum pooling behind the second and the fourth. Our
    reading of the five-layer convolutional backbone of HQCNN (arXiv 2509.14277), whose text leaves all sizes open.
    Weights come from torch's global generator.
    """
    layers: list[nn.Module] = []
    for number, (before, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False), start=1):
        # Batch normalisation takes away what a bias adds.
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if number in HALVED_BEHIND:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)

"""A multilayer perceptron on the pixels, for smoke runs. Hidden layers: layer1, layer2, and so on."""

from torch import nn

from kdal_cli.dataset import Shape
from kdal_cli.models._blocks import chain
from kdal_cli.values import Count, Share


def mlp(shape: Shape, *, hidden: tuple[Count, ...] = (128,), dropout: Share = 0.0) -> nn.Module:
    """Linear layers of `hidden` units with ReLU, each followed by dropout of that share; D = the last of them.

    Without hidden layers it is logistic regression, and D = c · H · W.
    """
    inputs = shape.channels * shape.height * shape.width
    steps: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    for i, units in enumerate(hidden, start=1):
        steps[f"layer{i}"] = chain(linear=nn.Linear(inputs, units), relu=nn.ReLU(), dropout=nn.Dropout(dropout))
        inputs = units
    return chain(**steps, fc=nn.Linear(inputs, shape.classes))

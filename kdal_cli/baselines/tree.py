"""A decision tree: the student that can be read."""

from dataclasses import dataclass

from kdal_cli.baselines._words import Answer, Array
from kdal_cli.values import Count, Share


@dataclass(frozen=True)
class Tree:
    """A tree that splits where the squared error of the targets falls most.

    On labels that is the Gini impurity, Σ_c p_c (1 − p_c); on a teacher's answers it is the soft decision tree of
    distillation. leaf: images that a leaf has at least.
    """

    space: str = "pixels"
    soft: Share = 0.0
    leaf: Count = 1

    def learn(self, vectors: Array, targets: Array) -> Answer:
        from sklearn.tree import DecisionTreeRegressor

        model = DecisionTreeRegressor(min_samples_leaf=self.leaf, random_state=0).fit(vectors, targets)
        return lambda seen: model.predict(seen).argmax(1)

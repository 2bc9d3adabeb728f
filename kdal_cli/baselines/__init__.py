"""Simple models that learn from the very labels that the student has, so that its curve has something to beat.

One file a model, a frozen dataclass of its settings. Axis letters: M labelled images, n others, C classes, D features.

    space: what it looks at: `pixels`, `features` of the student, `teacher` (features of the teacher), or a file
    soft: how much of a target is the teacher's answer rather than the label
    learn(vectors (M, D), targets (M, C)) -> answer, and answer(vectors (n, D)) -> classes (n,)

Vectors are float64, centred, of mean squared length 1 over the images to learn from. Targets are shares that add up
to 1: a single 1 where soft is 0. Two classes or more have a share. The same input gives the same answers to the bit.
"""

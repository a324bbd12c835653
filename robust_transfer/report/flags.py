"""Red flags explained for newcomers: meaning and advice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """``sign``: words that identify this flag."""

    sign: str
    means: str
    todo: str


ADVICE = (
    Advice(
        "the model is random",
        "Asked twice, it answers differently: one answer decides nothing. Here the mean of twenty decides on each image.",
        "Report what single answers are worth under attack, which the flag gives; fix the randomness if you can.",
    ),
    Advice(
        "depend on the batch",
        "An image's answer changes with its neighbours: statistics of the batch are used at test time.",
        "Put the model in evaluation mode and use stored statistics; evaluate again.",
    ),
    Advice(
        "returns probabilities",
        "Softmax inside the model makes gradients vanish, so attacks by gradients fail.",
        "Return what softmax is given (logits); evaluate again.",
    ),
    Advice(
        "softmax is exactly 1",
        "The logits are scaled so far that plain cross-entropy has no gradient.",
        "Believe no attack that climbs plain cross-entropy; those of this project do not.",
    ),
    Advice(
        "softmax is all but even",
        "The logits are scaled so far down that plain cross-entropy has next to no gradient.",
        "Believe no attack that climbs plain cross-entropy; those of this project scale the logits first.",
    ),
    Advice(
        "where a gradient is asked for",
        "Whoever attacks is shown another network than whoever uses it: no gradient attack has seen the real one.",
        "Find in the code what asks about gradients, and evaluate without it.",
    ),
    Advice(
        "gradient is random",
        "The answers are the same each time and the gradient is not: something in the backward pass draws.",
        "Take the layer with a backward pass of its own out, and evaluate again.",
    ),
    Advice(
        "do not change the logits as it says",
        "The gradient is not the slope of the network: a backward pass of its own, or jumps everywhere (thresholds, winners).",
        "Attack without that layer; evaluate again with `strong+stand-in` and with `square-5000`.",
    ),
    Advice(
        "through smooth stand-ins of what hides",
        "Rounding, thresholds or detached layers hid the gradient; taking them for the identity finds what was hidden.",
        "Report `strong+stand-in` in place of the figure, or the network without these layers.",
    ),
    Advice(
        "that the model's own gradient had left",
        "Another network's gradient (the source's, a stand-in's) broke what the model's own did not: it hides something.",
        "Report the figure that includes this attack, never one without it; attack the network without its last layers.",
    ),
    Advice(
        "if it is a rejection",
        "Attacks end in a class that no image has, as a detector's rejections do; they count as broken here.",
        "Attack network and detector at once; say for rejections of clean images, too, what they cost.",
    ),
    Advice(
        "in the fast copy",
        "The attack's steps ran on a fast copy of the network that answers differently.",
        "Attack the plain module.",
    ),
    Advice(
        "attack with --precision float32",
        "The attack's steps ran in a lower precision, in which the network is another one.",
        "Evaluate again with --precision float32.",
    ),
    Advice(
        "zero or vanishing",
        "Rounding, thresholds or detached layers hide the gradient from the attack.",
        "Attack without that layer, or through a smooth stand-in (BPDA).",
    ),
    Advice(
        "the gradient misleads",
        "The gradient is shattered: following it does no better than guessing.",
        "Use Square with many queries, or attack a smoothed model.",
    ),
    Advice(
        "without gradients breaks",
        "Gradient masking: a blind search finds what the gradient attack missed, so the figure is too high.",
        "Do not report this figure; attack with `strong`, and with Square and many queries.",
    ),
    Advice(
        "random search broke",
        "Gradient masking: a blind search found what the gradient attacks had left.",
        "Take more queries, and find out what hides the gradient.",
    ),
    Advice(
        "still stand, where nothing can",
        "At this budget every image can be made grey, and yet some stand: the attack does not work.",
        "Find out why before anything else; the figure means nothing until then.",
    ),
    Advice(
        "has not converged",
        "More effort breaks clearly more, so the figure is too high.",
        "Evaluate again with `strong`, more steps or more restarts.",
    ),
    Advice(
        "all predictions are one class",
        "Training collapsed: the network says the same whatever it sees.",
        "Train again; the figures say nothing.",
    ),
    Advice(
        "classes are ever predicted",
        "Training collapsed to a few classes.",
        "Train again.",
    ),
    Advice(
        "are no numbers",
        "The network returned NaN or infinite values; such images count as misclassified.",
        "Find out where they come from: the accuracy is none until then.",
    ),
    Advice(
        "were trained on",
        "Images that a network was trained on say little about new ones: the figures may be too good.",
        "Take the figures without them, which stand in the flag; drop the copies and evaluate again.",
    ),
    Advice(
        "of the val split",
        "Settings or epochs were chosen by these images: the figures are a little too good.",
        "Report the test split.",
    ),
    Advice(
        "were broken by an attack",
        "A proof and an image that breaks it cannot both be right.",
        "Check the image by `verify`; report what you find: one of the two has a fault, or rounding decides.",
    ),
    Advice(
        "constant classifier is more robust",
        "Saying the most frequent class always would do as well or better under attack.",
        "Do not call the network robust.",
    ),
)
UNKNOWN = Advice(
    "", "This version has no words on it.", "Ask whoever raised it; docs/trust.md lists those that are known."
)


def advice(flag: str) -> Advice:
    """Meaning of a flag, with advice."""
    return next((each for each in ADVICE if each.sign in flag), UNKNOWN)

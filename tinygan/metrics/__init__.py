"""How good and how varied samples are: points in the plane, digits, characters, scores of
strangeness, and photographs beside the true ones.

Letters: N samples, F features, M modes. Images are (N, H, W, C) in [-1, 1]. Statistics are
computed in float64, in main memory.

A figure says little alone. Read it beside a ceiling, what held-out real data get (better than
that is chance, or learning by heart), and a floor, such as a Gaussian fit of the pixels.
"""

from .attributes import (
    attribute_accuracies,
    character_figures,
    shipped_attribute_classifier,
    train_attribute_classifier,
)
from .augmentation import accuracy_from, report_few, report_translations
from .captions import (
    CaptionPictures,
    caption_figures,
    draw_texts,
    named_right,
    named_score,
    r_precision,
    report_captions,
    text_option,
)
from .classifier import accuracy, cross_entropy, shipped_classifier, train_classifier
from .colours import colour_figures, report_colours
from .digits import CEILING, accuracy_score, gaussian_fit, measure, report_digits, subjects
from .distances import Region, frechet_distance, kernel_distance, precision_and_recall
from .modes import count_modes, report_modes
from .music import PianoRolls, music_figures, nearest_phrases, report_music
from .photographs import (
    PhotographPieces,
    gradient_ratio,
    patch_distance,
    period_pattern,
    photograph_figures,
    psnr,
    report_photographs,
    ssim,
    structural_similarity,
    texture_distance,
)
from .roc import auroc, roc_curve
from .strangeness import (
    OneDigit,
    Scores,
    classical_scores,
    digits_option,
    judge_strokes,
    one_digit,
    over_digits,
    pasted_strokes,
    squared_distances,
)
from .styles import Styles, followed, path_lengths, report_styles
from .translations import intersection_over_union, report_round_trips
from .words import WordPictures, attention_on_parts, report_words

__all__ = [
    "CEILING", "CaptionPictures", "OneDigit", "PhotographPieces", "PianoRolls", "Region", "Scores",
    "Styles", "WordPictures", "accuracy", "accuracy_from", "accuracy_score", "attention_on_parts",
    "attribute_accuracies", "auroc", "caption_figures", "character_figures", "classical_scores",
    "colour_figures", "count_modes", "cross_entropy", "digits_option", "draw_texts", "followed",
    "frechet_distance", "gaussian_fit", "gradient_ratio", "intersection_over_union",
    "judge_strokes", "kernel_distance", "measure", "music_figures", "named_right", "named_score",
    "nearest_phrases", "one_digit", "over_digits", "pasted_strokes", "patch_distance",
    "path_lengths", "period_pattern", "photograph_figures", "precision_and_recall", "psnr",
    "r_precision", "report_captions", "report_colours", "report_digits", "report_few",
    "report_modes", "report_music", "report_photographs", "report_round_trips", "report_styles",
    "report_translations", "report_words", "roc_curve", "shipped_attribute_classifier",
    "shipped_classifier", "squared_distances", "ssim", "structural_similarity", "subjects",
    "text_option", "texture_distance", "train_attribute_classifier", "train_classifier",
]

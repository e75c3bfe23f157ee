"""Pure functions of arrays: what the runs leave behind, turned into scores, tests and intervals."""

from byrote.measures.duplicates import (
    Nearest,
    coincidence_rate,
    exact_duplicates,
    near_duplicates,
    nearest,
    repeated,
    typical_distance,
)
from byrote.measures.efficient import Chance, EfficientMemorisation, efficient_memorisation
from byrote.measures.first_epoch import FirstEpochDifficulty, first_epoch_difficulty
from byrote.measures.gini import gini
from byrote.measures.influence_pairs import InfluencePairs, influence_pairs
from byrote.measures.intervals import (
    combined_interval,
    log_ratio_interval,
    mean_interval,
    proportion_interval,
    slope_interval,
)
from byrote.measures.knn_shapley import knn_shapley, knn_shapley_regression
from byrote.measures.label_errors import LabelErrors, flag_label_errors, label_errors, residual_errors
from byrote.measures.leave_one_out import leave_one_out
from byrote.measures.masked import masked_over_runs
from byrote.measures.membership import Attack, Variance, closeness, lira, log_odds, loss_attack, rmia
from byrote.measures.membership_risk import (
    Catch,
    GroupRisk,
    MembershipRisk,
    Roc,
    caught_at,
    group_risk,
    membership_risk,
    pooled_auc,
    roc,
)
from byrote.measures.memorisation import (
    error_bound,
    heldout_mean,
    included_mean,
    influence,
    memorisation,
    per_run_mean,
)
from byrote.measures.passes import (
    CriticalSamples,
    Heldout,
    LossSensitivity,
    PassScores,
    Status,
    critical_samples,
    csg,
    gradient_norms,
    grand,
    input_curvature,
    input_gradient_norms,
    loss_sensitivity,
)
from byrote.measures.permutation import PermutationTest, mcnemar, p_value, relabelling_test, sign_flip_test
from byrote.measures.prediction_depth import PredictionDepth, prediction_depth
from byrote.measures.suspicion import LabelSuspicion, label_suspicion, residual_suspicion
from byrote.measures.target_columns import TargetColumn, target_columns
from byrote.measures.threshold_samples import AumFlags, aum_flags, threshold_samples
from byrote.measures.trace import DataMap, ForgettingEvents, aum, csl, data_map, el2n, forgetting_events

__all__ = [
    "Attack",
    "AumFlags",
    "Catch",
    "Chance",
    "CriticalSamples",
    "DataMap",
    "EfficientMemorisation",
    "FirstEpochDifficulty",
    "ForgettingEvents",
    "GroupRisk",
    "Heldout",
    "InfluencePairs",
    "LabelErrors",
    "LabelSuspicion",
    "LossSensitivity",
    "MembershipRisk",
    "Nearest",
    "PassScores",
    "PermutationTest",
    "PredictionDepth",
    "Roc",
    "Status",
    "TargetColumn",
    "Variance",
    "aum",
    "aum_flags",
    "caught_at",
    "closeness",
    "coincidence_rate",
    "combined_interval",
    "critical_samples",
    "csg",
    "csl",
    "data_map",
    "efficient_memorisation",
    "el2n",
    "error_bound",
    "exact_duplicates",
    "first_epoch_difficulty",
    "flag_label_errors",
    "forgetting_events",
    "gini",
    "gradient_norms",
    "grand",
    "group_risk",
    "heldout_mean",
    "included_mean",
    "influence",
    "influence_pairs",
    "input_curvature",
    "input_gradient_norms",
    "knn_shapley",
    "knn_shapley_regression",
    "label_errors",
    "label_suspicion",
    "leave_one_out",
    "lira",
    "log_odds",
    "log_ratio_interval",
    "loss_attack",
    "loss_sensitivity",
    "masked_over_runs",
    "mcnemar",
    "mean_interval",
    "membership_risk",
    "memorisation",
    "near_duplicates",
    "nearest",
    "p_value",
    "per_run_mean",
    "pooled_auc",
    "prediction_depth",
    "proportion_interval",
    "relabelling_test",
    "repeated",
    "residual_errors",
    "residual_suspicion",
    "rmia",
    "roc",
    "sign_flip_test",
    "slope_interval",
    "target_columns",
    "threshold_samples",
    "typical_distance",
]

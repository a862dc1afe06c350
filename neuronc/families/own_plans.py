"""The families with a plan of ours, by transformers' model type."""

from collections.abc import Mapping

from neuronc.families import opt
from neuronc.families.own_plan import OwnPlan

OWN_PLANS: Mapping[str, OwnPlan] = {"opt": opt.PLAN}

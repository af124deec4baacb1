"""A given classifier: only features and bias are trained."""

from ufm.model.variant import register
from ufm.variants.fixed_classifier.variant import FixedClassifier

register(FixedClassifier())

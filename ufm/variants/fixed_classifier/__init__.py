r"""A given classifier: only features and bias are trained.

>>> given = Fixed(simplex_etf(key, 3, 4))
>>> of_features = Problem(loss=CrossEntropy(), class_counts=(4, 2, 1), dim=4, lam_w=None,
...                       lam_h=1e-2, lam_b=None, classifier=given)
>>> global_minimum(of_features).kind
'simplex ETF'
"""

from ufm.model.variant import register
from ufm.variants.fixed_classifier.variant import FixedClassifier

register(FixedClassifier())

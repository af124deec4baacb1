"""A certificate as a folder that checks itself: JSON, arrays, and a NumPy script.

`certificate.json` has the problem, the claims and the assumptions. `arrays.npz` has the point, the
escape direction of a strict saddle, and the nearest minimiser. `verify.py` recomputes every claim
from these two files with NumPy alone, and shares no code with this library. It is a copy of the
file of that name in this package.

    write_dossier(examine(load_classifier("last_layer.npz")), "last_layer.certificate")
"""

from ufm.last_layer.dossier._write import check_target as check_target
from ufm.last_layer.dossier._write import dossier as dossier
from ufm.last_layer.dossier._write import why_unwritten as why_unwritten
from ufm.last_layer.dossier._write import write_dossier as write_dossier

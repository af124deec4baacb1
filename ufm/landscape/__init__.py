"""The landscape: searches for critical points of every index, and the census of their results."""

from ufm.landscape.census import Census as Census
from ufm.landscape.census import Descent as Descent
from ufm.landscape.census import Search as Search
from ufm.landscape.exploration import explore as explore
from ufm.landscape.flow import Flow as Flow
from ufm.landscape.flow import gradient_flow as gradient_flow
from ufm.landscape.flow import small_start as small_start
from ufm.landscape.point import CriticalPoint as CriticalPoint
from ufm.landscape.root_finding import Roots as Roots
from ufm.landscape.root_finding import RootStatus as RootStatus
from ufm.landscape.root_finding import find_roots as find_roots

"""How far a surface is from the true one: Chamfer, F-score, normal consistency, volumetric IoU, each with its protocol.

truth = Surface(mesh, Protocol())          # samples, tree and cells are made once
compare(student_mesh, truth).chamfer       # world units: 0.01 is 1 % of the object's longest side
compare(truth.mesh, truth).chamfer         # the sampling floor: the best that any mesh can score
"""

from models.metrics.surfaces import Figures, Protocol, Surface, compare

__all__ = ["Figures", "Protocol", "Surface", "compare"]

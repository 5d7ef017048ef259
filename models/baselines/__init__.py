"""What a sceptic compares a student with.

mean_shape     the class's mean shape: what is known without looking at the item
nearest        the training mesh whose features are nearest: looking, without making anything
ellipsoid      fitted to the silhouettes: looking at the outline alone
icosphere_fit  an icosphere fitted to the truth: the ceiling of mesh_deform, and of whatever else deforms one
"""

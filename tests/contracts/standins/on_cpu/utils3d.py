"""A stand-in for utils3d: imported by TRELLIS's Gaussians, used only where they are turned, which ours are not."""

import numpy as np

from models.silhouettes import silhouette_distance


def test_silhouette_distances_are_exact_within_the_pixel():
    edge_px = 20.3
    alpha = np.rint(255 * (edge_px - np.arange(40)).clip(0, 1)).astype(np.uint8)
    distance_HW = silhouette_distance(np.tile(alpha, (30, 1)), 0.5)
    np.testing.assert_allclose(distance_HW, np.tile(edge_px - (np.arange(40) + 0.5), (30, 1)), atol=0.01)


def test_hard_silhouettes_end_at_the_pixels_border():
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)
    distance_HW = silhouette_distance(np.tile(alpha, (30, 1)), 0.5)
    np.testing.assert_allclose(distance_HW, np.tile(20 - (np.arange(40) + 0.5), (30, 1)), atol=1e-6)


def test_an_empty_silhouette_has_no_edge():
    assert silhouette_distance(np.zeros((8, 8), np.uint8), 0.5) is None

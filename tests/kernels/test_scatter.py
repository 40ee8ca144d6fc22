"""Adding rows to rows in one order."""

from __future__ import annotations

import torch

from mtaw_fast.kernels.scatter import add_rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_repeated_rows_add_up_with_the_same_bits_on_every_run() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(50, 7, generator=generator).to(DEVICE)
    rows = torch.randint(0, 50, (400,), generator=generator).to(DEVICE)
    values = torch.randn(400, 7, generator=generator).to(DEVICE)
    expected = matrix.double()
    for row, value in zip(rows.tolist(), values.double(), strict=True):
        expected[row] += value
    results = [add_rows(matrix.clone(), rows, values) for _ in range(3)]
    torch.testing.assert_close(results[0].double(), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_the_matrix_itself_is_changed() -> None:
    matrix = torch.zeros(3, 2)
    assert add_rows(matrix, torch.tensor([2, 2]), torch.ones(2, 2)) is matrix
    assert matrix.tolist() == [[0, 0], [0, 0], [2, 2]]

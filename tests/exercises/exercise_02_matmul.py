"""Exercise 2: y = a b, the matrix product: (N, M) @ (M, O) -> (N, O).

    y[i, k] = sum over j of a[i, j] b[j, k]

    dL/da[i, j] = sum over k of dL/dy[i, k] b[j, k]
    dL/db[j, k] = sum over i of a[i, j] dL/dy[i, k]

Both are matrix products again. Which one has to be transposed? The shapes tell: dL/dy is
(N, O), and the results are (N, M) and (M, O).

Write the derivatives with Tensors (`dy @ ...`, `a.transpose()`), so that they can be
differentiated again.
"""

from tinygan.tensor import record  # noqa: F401


def matmul(a: (2, 3), b: (3, 4)):
    # return record(a.data @ b.data, (a, b), lambda dy, y: ..., lambda dy, y: ...)
    raise NotImplementedError("not started")

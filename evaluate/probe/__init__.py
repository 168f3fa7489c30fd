"""The paper's evaluation: features of one layer, a linear SVM, the benchmark's own folds (Section 5)."""

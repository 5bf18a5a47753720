"""Started by decaf.py in DECAF's own environment: columns scaled to 0..1 in, made rows out.

Column 0 is the group, the last the target.
"""

import sys
import warnings

import numpy as np
import pytorch_lightning as pl
import torch
from decaf import DECAF
from torch.utils.data import DataLoader

HIDDEN = 100
BATCH = 256


def main(given: str, made: str) -> None:
    warnings.simplefilter("ignore")
    content = np.load(given)
    data = torch.from_numpy(content["data"]).float()
    pl.seed_everything(int(content["seed"]), verbose=False)
    columns = data.shape[1]
    edges = [[parent, child] for child in range(columns) for parent in range(child)]
    model = DECAF(columns, dag_seed=edges, h_dim=HIDDEN, lambda_privacy=0, batch_size=BATCH, lr=1e-3)
    trainer = pl.Trainer(
        max_epochs=int(content["epochs"]),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(model, DataLoader(data, batch_size=BATCH, shuffle=True))
    rows = data[torch.randint(len(data), (int(content["rows"]),))]
    with torch.no_grad():
        out = model.gen_synthetic(rows, biased_edges={columns - 1: [0]})
    np.save(made, out.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])

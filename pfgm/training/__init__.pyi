from pfgm.training.trainer import Trainer as Trainer

"""Networks: nn.Modules only. Data parallelism, mixed precision, EMA and compilation are applied from outside."""

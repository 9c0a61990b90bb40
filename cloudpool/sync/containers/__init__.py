"""The containers of managers: dict, list, Namespace and Value, Array. One trip an operation, no process behind them."""

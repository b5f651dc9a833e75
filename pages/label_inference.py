"""Label inference: from an update to labels, every strategy beside the truth, and how often each is right."""

from ui import shell

shell.within_app()


from deepleak_core.scenario import Scenario
from ui import label_inference
from ui.address import WELCOME

EXAMPLES = {
    "Two frogs": Scenario(indices=(0, 1, 4, 5)),
    "All different": WELCOME,
    "Four frogs": Scenario(indices=(4, 5, 7, 19)),
    "Nine, trained": Scenario(composition="random", batch_size=9, model="lenet64-relu", stage="late"),
    "Sixteen": Scenario(composition="random", batch_size=16),
    "Sixteen, trained": Scenario(composition="random", batch_size=16, model="lenet64-relu", stage="early"),
    "Sixteen, FedAvg": Scenario(
        composition="random", batch_size=16, mode="fedavg", local_epochs=5, local_batch_size=4, local_lr=0.01
    ),
}

view = label_inference.opened(EXAMPLES)
label_inference.top(view, "Which labels are in the batch? The last layer's part of the update gives them away.")
label_inference.answers(view)
label_inference.accuracy(view, "How often is it right?")
label_inference.publish(view)

"""`godelta schema`."""

from godelta.campaign import CampaignConfig
from godelta.cli.console import print_json


def print_schema() -> None:
    """Print the JSON schema of a campaign file."""
    print_json(CampaignConfig.model_json_schema())

"""Fills a moto account with secrets, parameters and a KMS key, by AWS's own client: seed_secrets.py URL."""

import sys

import boto3


def client(service):
    return boto3.client(
        service,
        endpoint_url=sys.argv[1],
        region_name="eu-west-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


manager = client("secretsmanager")
manager.create_secret(Name="prod/db", SecretString='{"password": "p:1"}')
manager.create_secret(Name="binary", SecretBinary=b"bytes")
parameters = client("ssm")
parameters.put_parameter(Name="/prod/db-password", Value="p2", Type="SecureString")
parameters.put_parameter(Name="plain.name", Value="p3", Type="String")
kms = client("kms")
key = kms.create_key()["KeyMetadata"]["KeyId"]
kms.create_alias(AliasName="alias/cairn", TargetKeyId=key)

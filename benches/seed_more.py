"""Adds 20 resources of each of 10 kinds to the AWS double that `seed_aws.py` filled, every second one hardened.

    python seed_more.py http://127.0.0.1:PORT
"""

import json
import sys

import boto3
from botocore.config import Config

COUNT = 20
TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
BLOCK = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)


def client(service):
    return boto3.client(service, region_name="us-east-1", endpoint_url=sys.argv[1], aws_access_key_id="AKIDEXAMPLESEED0",
                        aws_secret_access_key="seed", config=Config(retries={"max_attempts": 1}))


def policy(effect, action, resource, **more):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": action, "Resource": resource, **more}]})


s3, sqs, sns, dynamodb, rds, kms, iam = map(client, ("s3", "sqs", "sns", "dynamodb", "rds", "kms", "iam"))
for n in range(COUNT):
    name, good = f"more-{n:02}", n % 2 == 0

    s3.create_bucket(Bucket=name)
    if good:
        tls = {"Bool": {"aws:SecureTransport": "false"}}
        s3.put_bucket_policy(Bucket=name, Policy=policy("Deny", "s3:*", [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"], Principal="*", Condition=tls))
        s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=BLOCK)
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})

    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    topic = sns.create_topic(Name=name)["TopicArn"]
    if not good:
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy("Allow", "sqs:SendMessage", arn, Principal="*")})
        sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy("Allow", "sns:Publish", topic, Principal="*"))

    dynamodb.create_table(TableName=name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                          AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
    if good:
        dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})

    rds.create_db_instance(DBInstanceIdentifier=name, DBInstanceClass="db.t3.micro", Engine="postgres", AllocatedStorage=20, MasterUsername="root",
                           MasterUserPassword="Planted-password-2", PubliclyAccessible=not good, StorageEncrypted=good, DeletionProtection=good,
                           AutoMinorVersionUpgrade=good, BackupRetentionPeriod=14 if good else 1)

    key = kms.create_key(Description=name)["KeyMetadata"]["KeyId"]
    if good:
        kms.enable_key_rotation(KeyId=key)

    iam.create_group(GroupName=name)
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    document = policy("Allow", "s3:GetObject" if good else "*", "*")
    attached = iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
    iam.create_user(UserName=name)
    if good:
        iam.add_user_to_group(GroupName=name, UserName=name)
        iam.attach_group_policy(GroupName=name, PolicyArn=attached)
    else:
        iam.create_login_profile(UserName=name, Password="Planted-password-3!")
        iam.attach_user_policy(UserName=name, PolicyArn=attached)
        for _ in range(2):
            iam.create_access_key(UserName=name)
